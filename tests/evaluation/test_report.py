"""The report: of a run, and of examples with figures of their own; absent sections; what is written is what was measured."""

import ast
import json
import re
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

import refsynth
from refsynth.core.intervals import INTERVALS, wilson
from refsynth.core.types import Draft, Example, Metric
from refsynth.evaluation import confidence, mistakes, origins, overlap, plots, sections, tree
from refsynth.evaluation.advice import advise, top_confusions
from refsynth.evaluation.calibration import threshold_of
from refsynth.evaluation.confidence import CalibrationReport
from refsynth.evaluation.headline import verdict
from refsynth.evaluation.origins import (
    Drafts,
    ScoreHistogram,
)
from refsynth.evaluation.render import cut
from refsynth.evaluation.report import Report, render_html, render_markdown, to_json
from refsynth.evaluation.sections import Classes, Comparison, Gate, Results, System
from refsynth.kinds import metrics
from tests.support.reports import ENGLISH, HOSTILE, Outline, example, simulate

# fmt: off
INTENTS = (
    "查询订单", "催促发货", "修改地址", "取消订单", "申请退款", "退款进度", "换货申请", "商品破损",
    "缺少配件", "质量问题", "发错商品", "物流异常", "拒收包裹", "开具发票", "修改发票", "优惠券使用",
    "积分兑换", "会员升级", "无法登录", "忘记密码", "账号被盗", "注销账号", "绑定手机号", "支付失败",
    "重复扣款", "分期付款", "投诉客服", "商品咨询", "库存查询", "价格保护申请",
)
# fmt: on
CHINESE = {name: f"客户的来意属于第{i}类" for i, name in enumerate(INTENTS, 1)}


@cache
def example_chinese():
    texts = (
        "我上周五下的单，到现在还没有发货，能帮忙催一下吗？",
        "收到的杯子裂了一道口子，想换一个新的。",
        "发票抬头写错了，可以重新开吗",
        "一直提示验证码错误，登录不上去",
        "同一笔订单扣了两次钱，请尽快退回多扣的部分",
        "亲，您好，很高兴为您服务。",
        "好的好的好的好的",
    )
    report = example(CHINESE, language="zh", title="售后工单分类", accepted=False, n=240, file="", texts=texts)
    return replace(report, compression=None, absent={"compression": "int8 was not faster than fp32 on this machine"})


@cache
def example_wide():
    labels = {f"banking_intent_number_{i}_asks_for_something": f"the customer asks for thing {i}" for i in range(77)}
    return example(labels, n=1540)


@pytest.fixture(scope="module")
def english():
    return example()


@pytest.fixture(scope="module")
def page(english):
    return render_html(english)


@pytest.fixture(scope="module")
def real(whole_run):
    """The report of a run, and its page."""
    return whole_run.report, render_html(whole_run.report)


def test_variety_and_coverage_are_shown_in_both_forms(english, page):
    for text in (page, render_markdown(english)):
        assert "44.7" in text and "self-BLEU-4" in text
        assert "62.8% of 94 real rows have one of 612 kept drafts nearer" in text


@cache
def hostile_report():
    """Every string that a user, a reference or a file name can reach is hostile."""
    labels = {f"{HOSTILE} {i}": HOSTILE for i in range(14)}
    report = example(labels, title=HOSTILE, language='"><script>', file=HOSTILE, texts=(HOSTILE,) * 7, n=200)
    gate = replace(
        report.gate,
        learner=HOSTILE,
        reason=HOSTILE,
        comparisons=tuple(replace(c, learner=HOSTILE) for c in report.gate.comparisons),
    )
    drafts = replace(
        report.drafts,
        reference=HOSTILE,
        dropped={HOSTILE: 3},
        scores=(ScoreHistogram.of(HOSTILE, [1.0, 2.0], [0.0]),),
        seeds={"row-12": HOSTILE},
        rejected=(replace(report.drafts.rejected[0], dropped=HOSTILE, scores={HOSTILE: 1.0}),),
    )
    data = replace(report.data, files=(replace(report.data.files[0], file=HOSTILE, format=HOSTILE),))
    lineage = replace(report.lineage, command=HOSTILE, machine=HOSTILE, versions={HOSTILE: HOSTILE})
    systems = tuple(replace(system, name=HOSTILE, detail=HOSTILE) for system in report.results.systems)
    results = replace(report.results, systems=systems)
    return replace(report, gate=gate, drafts=drafts, data=data, lineage=lineage, results=results, absent={"gate": HOSTILE})


def check_sound(page):
    assert page.startswith("<!DOCTYPE html>")
    outline = Outline(page)
    assert outline.tags["h1"] == outline.tags["main"] == outline.tags["title"] == 1
    assert [tag for tag in ("script", "img", "link", "iframe", "object", "form", "base") if outline.tags[tag]] == []
    assert [each for each in outline.attributes if each[1].startswith("on") or each[1] == "src"] == []
    assert all(value.startswith("#") for _, name, value in outline.attributes if name.endswith("href"))
    assert set(re.findall(r"https?://[^\"' ]+", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in page
    assert [name for name, count in outline.ids.items() if count > 1] == []
    assert set(outline.targets) <= set(outline.ids)
    assert all(high - low <= 1 for low, high in pairwise(outline.headings))
    assert all(header.get("scope") in ("col", "row") for header in outline.headers)
    assert ("html", "lang", "en") in outline.attributes
    policy = next(value for tag, name, value in outline.attributes if tag == "meta" and value.startswith("default-src"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    page.encode()


@pytest.mark.parametrize("build", [example, example_chinese, example_wide, hostile_report])
def test_the_page_is_sound_html_and_needs_nobody(build):
    check_sound(render_html(build()))


def test_the_page_of_a_run_is_sound_and_is_the_one_on_disk(real, whole_run):
    report, page = real
    check_sound(page)
    assert whole_run.paths.html.read_text("utf-8") == page
    assert whole_run.paths.markdown.read_text("utf-8") == render_markdown(report)
    assert whole_run.paths.json.read_text("utf-8") == to_json(report)


def test_plots_have_a_text_alternative(page):
    outline = Outline(page)
    labels = [value for tag, name, value in outline.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == outline.tags["svg"] == outline.tags["figcaption"] == 8
    assert all(labels)


def test_hostile_text_is_shown_and_does_nothing():
    outline = Outline(render_html(hostile_report()))
    shown = "".join(outline.text)
    assert "</script><img src=x onerror=alert(1)>" in shown
    assert "{{ 7*7 }}" in shown
    assert "\x00" not in shown
    assert "\u202e" not in shown
    assert outline.tags["style"] == 1 + outline.tags["svg"]  # ours, and matplotlib's in each plot


@given(st.text(max_size=60))
@settings(max_examples=25, deadline=None)
def test_any_draft_comes_back_as_text(text):
    labels = {"a": "", "b": ""}
    drafts = Drafts(
        reference="echo", asked=1, parsed=1, kept=1, dropped={}, best=(Draft(Example("draft-1", text, "a"), {}, None),)
    )
    report = Report(title="t", task="classify", language="en", date="d", version="0", labels=labels, drafts=drafts)
    outline = Outline(render_html(report))
    assert cut(text) in "".join(outline.text)
    assert not outline.tags["script"]


@given(st.text(max_size=40))
@settings(max_examples=40, deadline=None)
def test_markdown_keeps_any_text_in_its_cell(text):
    report = Report(title="t", task="classify", language="en", date="d", version="0", labels={"a": "", "b": ""})
    systems = (System(name=text, accuracy=Metric("accuracy", 0.5, 0.4, 0.6, 10)),)
    document = render_markdown(replace(report, results=Results(systems=systems, source="test file", n=10)))
    row = next(line for line in document.splitlines() if line.endswith("| 50.0 [40.0–60.0] | – | – |"))
    cells = re.sub(r"\\.", "", row)
    assert cells.count("|") == 5
    assert not re.search(r"[<`*\[_]", cells.split("|")[1])


def test_a_table_of_markdown_stands_apart_from_the_text_above_it(english):
    lines = render_markdown(english).split("\n")
    rules = [place for place, line in enumerate(lines) if line.startswith("|---")]
    assert len(rules) > 8
    assert {lines[place - 2] for place in rules} == {""}


def test_huge_texts_are_cut_visibly():
    assert cut("x" * 320) == "x" * 320
    assert cut("汉" * 5000) == "汉" * 320 + "… (+4,680 characters)"
    assert cut(" a\n\tb\x00c ") == "a b c"
    report = example(texts=("lorem " * 40_000,) * 7, n=60)
    assert len(render_html(report)) < 400_000


def test_scores_of_the_probabilities_are_shown_in_both_forms(real):
    report, page = real
    said = f"Brier score {report.calibration.brier:.3f} (0 to 2), log loss {report.calibration.log_loss:.3f} nats."
    assert said in page
    assert said in render_markdown(report)


def test_the_same_report_gives_the_same_bytes(real):
    report, page = real
    assert render_html(report) == page
    assert "<dc:date>" not in page
    assert "matplotlib.org" not in page


def test_chinese_stays_text_for_the_fonts_of_the_reader():
    report = example_chinese()
    page = render_html(report)
    svg = page[page.index('aria-label="Confusion matrix') :]
    assert "价格保护申请" in svg[: svg.index("</svg>")]
    assert '<bdi lang="zh">我上周五下的单' in page
    assert "Noto Sans CJK SC" in page
    assert "font-family: var(--sans" in page
    assert "DejaVu Sans," not in page


def test_the_page_of_a_run_shows_its_figures(real):
    report, page = real
    text = " ".join("".join(Outline(page).text).split())
    assert verdict(report) in text
    for system in report.results.systems:
        assert system.name in text
        assert f"{100 * system.accuracy.value:.1f}" in text
    for line in report.gate.comparisons:
        assert line.learner in text
        assert f"{100 * line.gain.value:+.1f} [{100 * line.gain.low:+.1f}, {100 * line.gain.high:+.1f}]" in text
    assert str(report.drafts.kept) in text
    for label, meaning in report.labels.items():
        assert label in text
        assert meaning in text
    for draft in (*report.drafts.best, *report.drafts.worst):
        assert cut(draft.example.text) in "".join(Outline(page).text)


def test_page_shows_what_was_measured(english, page):
    text = " ".join("".join(Outline(page).text).split())
    shipped = english.results.shipped
    assert verdict(english) in text
    assert f"{100 * shipped.accuracy.value:.1f}" in text
    assert f"n = {shipped.accuracy.n}" in text
    gain = english.gate.gain
    assert f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]" in text
    for name in ("two labels", "rows 8, 31", "rows 14, 57", "near-duplicate", "list-4", "row-12", "int8", "6b6b6b"):
        assert name in text
    for label, meaning in ENGLISH.items():
        assert label in text
        assert meaning in text


def test_each_form_names_the_method_of_its_intervals(real):
    report, page = real
    assert INTERVALS in " ".join("".join(Outline(page).text).split())
    assert INTERVALS in render_markdown(report)
    assert json.loads(to_json(report))["intervals"] == INTERVALS


def test_decisions_on_one_row_are_not_independent():
    """Ten labels of each of 20 rows, right or wrong together, are 20 decisions, and of ten pairs of copies they are ten."""
    rng = np.random.default_rng(0)
    right = np.repeat((rng.random(20) < 0.7).astype(int), 10).reshape(20, 10)
    threshold = threshold_of(right[:, 0], np.full(20, 0.65))
    common = {"right": right[:, 0], "confidence": np.full(20, 0.65), "threshold": threshold, "source": "test file"}
    said, by_row = np.full((20, 10), 0.65), np.full(20, 10)
    section = CalibrationReport.of_marks(right, said, by_row=by_row, **common)
    (cell,), share = section.bins, float(right.mean())
    assert (cell.n, cell.accuracy, cell.low, cell.high) == pytest.approx((200, share, *wilson(share, 20)))
    right[1::2] = right[::2]
    common["right"], share = right[:, 0], float(right.mean())
    section = CalibrationReport.of_marks(right, said, by_row=by_row, groups=np.arange(20) // 2, **common)
    assert (section.bins[0].low, section.bins[0].high) == pytest.approx(wilson(share, 10))
    assert (section.accuracy.low, section.accuracy.high) == pytest.approx(wilson(share, 10))
    assert (section.answered.low, section.answered.high) == pytest.approx(wilson(1.0, 10))


def test_many_classes_fold_but_are_all_there():
    report = example_wide()
    text = "".join(Outline(render_html(report)).text)
    assert "the other 65 classes" in text
    for row in report.classes.rows:
        assert row.label in text


def test_absent_sections_say_why():
    bare = Report(
        title="t",
        task="classify",
        language="en",
        date="2026-03-14",
        version="0.1.0",
        labels={"a": "x", "b": "y"},
        absent={"gate": "the labeled rows are only three"},
    )
    for document in ("".join(Outline(render_html(bare)).text), render_markdown(bare)):
        assert document.count("Left out: ") == 8
        assert "Left out: the labeled rows are only three." in document
    assert verdict(bare) == (
        "This model was not measured: there were no labeled rows to measure it on. "
        "No drafts were requested (synthesis.drafts: 0). The bundle is trained on real rows only."
    )
    assert advise(bare) == ("Label 8 rows of each class before you rely on it: enough to measure the model.",)


def test_json_is_whole_and_plain(english):
    tree = json.loads(to_json(english))
    assert tree["verdict"] == verdict(english)
    assert tree["next"] == list(advise(english))
    assert tree["calibration"]["bins"][0].keys() == {"confidence", "accuracy", "n", "low", "high"}
    assert tree["calibration"]["threshold"]["basis"] == english.calibration.threshold.basis
    assert tree["drafts"]["best"][0]["example"]["provenance"]["shown"] == ["row-12", "row-31"]
    assert set(asdict(english)) | {"verdict", "next", "intervals"} == set(tree)
    json.dumps(asdict(english))
    shaky = replace(english, results=replace(english.results, systems=(System(name="\ud800", size_mb=float("nan")),)))
    assert json.loads(to_json(shaky).encode())["results"]["systems"][0]["size_mb"] is None


def test_verdict_in_each_case(english):
    line = english.gate.comparisons[-1]
    assert line.learner == english.gate.learner
    gain = replace(line.gain, value=0.067, low=0.021, high=0.114, n=94)
    gate = replace(english.gate, comparisons=(replace(line, gain=gain),))
    shipped = replace(english.results.shipped, accuracy=Metric("accuracy", 0.768, 0.731, 0.802, 600))
    report = replace(english, gate=gate, results=replace(english.results, systems=(shipped,)))
    good = "The bundle's accuracy is 76.8% [73.1-80.2] on 600 rows of test.csv. "
    assert verdict(report) == (
        f"{good}Drafts help: +6.7 points [+2.1, +11.4] on 94 held-out real rows, "
        "so the bundle is trained with them (contrastive)."
    )
    refused = verdict(replace(report, gate=replace(gate, accepted=False), results=None))
    assert "The effect of drafts is not distinguishable from chance: +6.7 points" in refused
    assert refused.endswith("so the bundle is trained on real rows only (contrastive).")
    untested = verdict(replace(report, gate=None))
    assert untested == f"{good}The bundle is trained with drafts, whose effect was not measured on real rows."


def test_learners_without_drafts_are_compared_all_the_same(english):
    real = Metric("accuracy", 0.66, 0.6, 0.7, 48)
    lines = (Comparison(learner="tfidf", real=replace(real, value=0.79)), Comparison(learner="lora", real=real))
    why = "tfidf measured better (79.0% against 66.0%), but not by 2 standard errors"
    gate = replace(english.gate, comparisons=lines, accepted=False, learner="lora", passed_over=why)
    report = replace(english, gate=gate)
    for document in ("".join(Outline(render_html(report)).text), render_markdown(report)):
        assert "79.0" in document
        assert "tfidf measured better" in document
        assert "real rows + drafts" not in document.split("Classes and mistakes")[0].split("The gate")[-1]
    assert "The learner that ships was not measured with drafts" in verdict(report)


def gated(english, accepted, low, value, high):
    gate = english.gate
    line = replace(gate.comparisons[-1], gain=Metric("gain", value, low, high, 94))
    return replace(english, gate=replace(gate, accepted=accepted, comparisons=(line,)))


def test_advice_follows_the_figures(english):
    assert any(line.startswith("Drafts help") for line in advise(gated(english, True, 0.02, 0.06, 0.11)))
    unclear = advise(gated(english, False, -0.03, 0.01, 0.05))
    assert any("not distinguishable from chance" in line and "about 380 rows" in line for line in unclear)
    assert any("lower the accuracy" in line for line in advise(gated(english, False, -0.08, -0.05, -0.01)))
    truth = np.array([0] * 10 + [1] * 10)
    predicted = np.array([1] * 6 + [0] * 4 + [1] * 10)
    classes = Classes.of(["left", "right", "never"], truth, predicted, source="test file")
    report = replace(english, classes=classes)
    assert top_confusions(report) == [("left", "right", 6, 0.6)]
    lines = advise(report)
    assert any("left is taken for right in 6 rows (60% of its rows)" in line for line in lines)
    assert any("left (F1 57" in line for line in lines)
    assert any("1 of 3 labels have no rows" in line for line in lines)


def test_sections_compute_what_the_metrics_say():
    truth, logits = simulate(4, 200, 0.7)
    given_ = metrics.softmax(logits)
    threshold = threshold_of(given_.argmax(1) == truth, given_.max(1))
    section = CalibrationReport.of(truth, given_, threshold=threshold, source="test file", uncalibrated=given_)
    assert section.error == section.error_before == metrics.calibration_error(truth, given_)
    assert section.brier == pytest.approx(brier_score_loss(truth, given_, labels=range(4), scale_by_half=False))
    assert section.log_loss == pytest.approx(log_loss(truth, given_, labels=range(4)))
    assert (section.answered.value, section.accuracy.value) == pytest.approx((threshold.coverage, 1 - threshold.risk))
    assert len(section.curve) <= 200
    assert section.curve[-1].coverage == 1
    silent = CalibrationReport.of(truth, given_, threshold=threshold._replace(threshold=1.1), source="test file")
    assert silent.accuracy is None
    assert "coverage" in plots.risk_coverage(silent)
    histogram = ScoreHistogram.of("s", [1.0, 2.0, np.inf], [0.0, np.nan])
    assert (sum(histogram.kept), sum(histogram.dropped)) == (2, 1)
    assert (histogram.edges[0], histogram.edges[-1]) == (0, 2)


def test_nothing_to_plot_is_no_error():
    counts = ScoreHistogram.of("s", [], [])
    drafts = Drafts(reference="echo", asked=0, parsed=0, kept=0, dropped={}, scores=(counts,))
    results = Results(systems=(System(name="majority"),), source="cross-validation", n=0)
    gate = Gate(comparisons=(), accepted=False, learner="tfidf", reason="r", folds=2, repeats=1)
    report = Report(
        title="", task="classify", language="en", date="", version="", labels={}, drafts=drafts, results=results, gate=gate
    )
    assert Outline(render_html(report)).tags["svg"] == 1
    render_markdown(report)


def passed_in(node, within=""):
    """Yield what is called, and an argument that it is given by name, for all calls below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            callee = ast.unparse(child.func).rpartition(".")[2]
            yield from ((within if callee == "cls" else callee, keyword.arg) for keyword in child.keywords)
        yield from passed_in(child, child.name if isinstance(child, ast.ClassDef) else within)


def test_what_a_report_may_leave_out_some_run_fills():
    """A field that only tests would fill is no part of a report: it says nothing of any run."""
    source = Path(refsynth.__file__).parent
    given = {pair for path in source.rglob("*.py") for pair in passed_in(ast.parse(path.read_text("utf-8")))}
    given |= {("CalibrationReport", name) for name in confidence.CalibrationFields.__annotations__} | {
        ("System", name) for name in sections.FIGURES
    }
    parts = [
        part
        for module in (confidence, mistakes, origins, overlap, sections, tree)
        for part in vars(module).values()
        if is_dataclass(part) and part.__module__ == module.__name__
    ]
    optional = {(part.__name__, each.name) for part in parts for each in fields(part) if each.default is not MISSING}
    assert len(optional) > 40
    assert {pair for pair in optional - given if ("replace", pair[1]) not in given} == set()

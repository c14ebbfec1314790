"""The fine-tuning methods: which weights of an encoder they train, which they add, and which remain in the final model.

`METHODS` is the table. LoRA, AdaLoRA, IA3, prefix tuning, P-tuning and prompt tuning are peft's. Bottleneck adapters are our own,
because the library that has them requires an older transformers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

from refsynth.core.extras import require
from refsynth.core.learners import MethodName
from refsynth.learning.tuning.trainer import Companion, Tensors
from refsynth.models.adapted import PromptedTransformer, insert_bottlenecks

WARM, FINAL = 0.2, 0.5
"""AdaLoRA removes ranks between these shares of the steps: after the first `WARM` and before the last `FINAL`."""

ATTENTION = ("query", "value")
"""The matrices of a BERT-like layer that LoRA changes (Hu et al., 2022, section 7.1)."""


class Size(NamedTuple):
    """The size of added parts: the rank of LoRA, the vectors of a prompt or prefix, the width of a bottleneck adapter."""

    rank: int = 8
    prompt: int = 16
    bottleneck: int = 32


USUAL = Size()


class Adapted(NamedTuple):
    """An encoder ready to train, the function that returns the final one, and the companion that acts after each step."""

    transformer: Any
    finish: Callable[[], Any]
    companion: Companion | None = None


class Method(NamedTuple):
    """A fine-tuning method.

    Attributes:
        adapt: prepares an encoder, which it may change, for a training with the given number of steps.
        rate: default learning rate.
        merges: whether the final model has the encoder's own shape. If not, its bundle holds added parts too, which cost time
            in each prediction.
    """

    adapt: Callable[[Any, Size, int], Adapted]
    rate: float
    merges: bool


def _full(transformer: Any, size: Size, steps: int) -> Adapted:
    return Adapted(transformer, lambda: transformer)


def _head(transformer: Any, size: Size, steps: int) -> Adapted:
    return _full(transformer.requires_grad_(False), size, steps)


def _bitfit(transformer: Any, size: Size, steps: int) -> Adapted:
    """Train only the bias vectors (Ben Zaken et al., 2022)."""
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return _full(transformer, size, steps)


def _houlsby(transformer: Any, size: Size, steps: int) -> Adapted:
    """Train adapters and the layer norms (Houlsby et al., 2019)."""
    transformer.requires_grad_(False)
    insert_bottlenecks(transformer, size.bottleneck)
    for name, parameter in transformer.encoder.named_parameters():
        parameter.requires_grad_(".dropout.1." in name or "LayerNorm" in name)
    return _full(transformer, size, steps)


def _peft(transformer: Any, config: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft calls an older interface of transformers
        return require("peft", extra="train").get_peft_model(transformer, config)


def _lora(transformer: Any, size: Size, steps: int) -> Adapted:
    peft = require("peft", extra="train")
    model = _peft(transformer, peft.LoraConfig(r=size.rank, lora_alpha=2 * size.rank, target_modules=list(targets(transformer))))
    return Adapted(model, model.merge_and_unload)


def _adalora(transformer: Any, size: Size, steps: int) -> Adapted:
    peft = require("peft", extra="train")
    config = peft.AdaLoraConfig(
        init_r=2 * size.rank,
        target_r=size.rank,
        lora_alpha=4 * size.rank,
        target_modules=list(targets(transformer)),
        total_step=max(steps, 3),
        tinit=int(WARM * steps),
        tfinal=int(FINAL * steps),
    )
    model = _peft(transformer, config)
    return Adapted(model, model.merge_and_unload, RankBudget(model))


def _ia3(transformer: Any, size: Size, steps: int) -> Adapted:
    """Scale keys, values and the input of the second feed-forward matrix (Liu et al., 2022, section 3.3)."""
    peft = require("peft", extra="train")
    forward = [f"layer.{number}.output.dense" for number in range(transformer.config.num_hidden_layers)]
    model = _peft(transformer, peft.IA3Config(target_modules=["key", "value", *forward], feedforward_modules=forward))
    return Adapted(model, model.merge_and_unload)


def _prompts(kind: str, transformer: Any, size: Size, steps: int) -> Adapted:
    peft = require("peft", extra="train")
    inner = {} if kind == "PromptTuningConfig" else {"encoder_hidden_size": int(transformer.config.hidden_size)}
    config = getattr(peft, kind)(task_type=peft.TaskType.FEATURE_EXTRACTION, num_virtual_tokens=size.prompt, **inner)
    model = _peft(transformer, config)
    return Adapted(model, lambda: PromptedTransformer(transformer, model.get_prompt_embedding_to_save("default")))


METHODS: Mapping[MethodName, Method] = {
    "finetune": Method(_full, 5e-5, merges=True),
    "head": Method(_head, 5e-5, merges=True),
    "bitfit": Method(_bitfit, 1e-3, merges=True),
    "lora": Method(_lora, 1e-3, merges=True),
    "adalora": Method(_adalora, 2e-3, merges=True),
    "ia3": Method(_ia3, 5e-3, merges=True),
    "prefix_tuning": Method(partial(_prompts, "PrefixTuningConfig"), 1e-2, merges=False),
    "p_tuning": Method(partial(_prompts, "PromptEncoderConfig"), 1e-3, merges=False),
    "prompt_tuning": Method(partial(_prompts, "PromptTuningConfig"), 1e-2, merges=False),
    "houlsby": Method(_houlsby, 1e-3, merges=False),
}
"""Each method by its usual name. The head has its own learning rate: see `schedule.HEAD_RATE`."""


def targets(transformer: Any) -> Sequence[str]:
    """Return the names of the projections that LoRA changes: those of queries and values."""
    return ATTENTION if hasattr(transformer, "encoder") else ("q_proj", "v_proj")


USEFULNESS = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""peft's tables for each rank: its sensitivity, the smoothed sensitivity, and its uncertainty."""


@dataclass(frozen=True)
class RankBudget:
    """Removes ranks from AdaLoRA's matrices after each step, and keeps them near orthogonal (Zhang et al., 2023, eqs. 4, 9)."""

    model: Any

    def losses(self, processes: int) -> list[Callable[[], torch.Tensor]]:
        """Return the loss that keeps the matrices near orthogonal."""
        return [lambda: self.distance() * float(self._config.orth_reg_weight) / processes]

    def distance(self) -> torch.Tensor:
        """Return the mean over matrices of |P^T P - I|, where P has one column per rank (the Frobenius norm, as in peft)."""
        parts = []
        for name, matrix in self.model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                product = matrix @ matrix.T if "lora_A" in name else matrix.T @ matrix
                parts.append(torch.linalg.norm(product - torch.eye(len(product), device=product.device)))
        return torch.stack(parts).mean()

    def after(self, step: int) -> None:
        """Let peft update the importance of the ranks and set the least important to zero."""
        self.model.base_model.update_and_allocate(step)

    def state(self) -> Tensors:
        """Return peft's tables, and the remaining ranks once they are final."""
        tables = {table: getattr(self.model.base_model.rankallocator, table) for table in USEFULNESS}
        tables["left"] = {name: torch.tensor(ranks) for name, ranks in (self._config.rank_pattern or {}).items()}
        return {f"{table}/{name}": value for table, named in tables.items() for name, value in named.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore a state."""
        left: dict[str, list[bool]] = {}
        for key, value in state.items():
            table, _, name = key.partition("/")
            if table == "left":
                left[name] = value.tolist()
            else:
                getattr(self.model.base_model.rankallocator, table)[name] = value
        self._config.rank_pattern = left or None

    @property
    def _config(self) -> Any:
        return self.model.peft_config["default"]

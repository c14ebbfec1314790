"""Classification by prompting the reference: templates, verbalizers, examples, calibration, prompt search. Nothing is trained."""

"""Fine-tuning: the trainer, its losses, the fine-tuning methods, distillation, and continued pretraining of an encoder.

Only this package, reinforcement and the static student compute gradients. It does not know folds or drafts.
"""

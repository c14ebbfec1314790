"""Fine-tuning: the trainer, what it minimizes, the ways to move weights, distillation, and pretraining of an encoder.

The only place where gradients are taken, beside reinforcement and the static student. Knows nothing of folds or of drafts.
"""

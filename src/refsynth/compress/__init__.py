"""Making a trained model small: int8 export to ONNX, vocabulary pruning. Needs the extra `train`; knows nothing of bundles."""

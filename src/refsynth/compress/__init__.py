"""Making a trained model small, and shipping it: int8, smaller forms, static students, cascades, the contract, exports.

Needs the extra `train`. What a bundle is on disk is said in `bundle`.
"""

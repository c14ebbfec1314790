"""Makes a trained model small and ships it: int8, smaller forms, static students, cascades, the contract, exports.

Needs the extra `train`. The on-disk format is in `bundle`.
"""

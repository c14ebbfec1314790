"""learning/tuning"""

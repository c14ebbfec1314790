"""What a run says of itself: calibration, plots and the report. Measures nothing by running a model; it is given the figures."""

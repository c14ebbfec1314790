"""scikit-learn estimators: `fit` runs the pipeline on texts and labels in memory; the fitted estimator holds the bundle.

`base` has what all of them share. One module per task kind reads its X and y and converts the predictions.
"""

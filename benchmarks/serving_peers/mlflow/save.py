"""The pipeline as an MLflow model whose answers are probabilities."""

import os
import sys

import joblib
import mlflow.sklearn

mlflow.sklearn.save_model(joblib.load(os.environ["PIPELINE"]), sys.argv[1], pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle")

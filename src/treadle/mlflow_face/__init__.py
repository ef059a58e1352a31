"""MLflow as a face on the ledger: `mlflow.set_tracking_uri("treadle:///path/to/project")`. Nothing else in Treadle imports mlflow."""

"""One turn of the wheel, from a version of the data to a registered version of the model: its steps, their order, what starts it and when."""

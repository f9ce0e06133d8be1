"""Predicting from the command line: open the model, open the data, write the results."""

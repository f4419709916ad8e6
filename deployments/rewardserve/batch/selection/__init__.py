"""After scoring: preference pairs and the best answers, out of an output folder."""

"""The web: the endpoint's HTTP interface and the console."""

"""`treadle alarms`: list, show, ack, snooze, resolve."""

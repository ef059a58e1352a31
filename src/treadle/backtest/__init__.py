"""What a loop would have been worth: recorded history lived through under several policies, on a simulated clock."""

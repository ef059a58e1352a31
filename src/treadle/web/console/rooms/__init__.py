"""What each room shows and does, a file a room: functions of what was asked, and the operations they make."""

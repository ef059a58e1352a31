"""The command line: a table of commands, a file a room. A command parses, calls one verb of one room, prints."""

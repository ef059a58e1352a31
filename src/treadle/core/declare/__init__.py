"""What a project file says: frozen declarations, checked when they are loaded. No input or output happens here."""

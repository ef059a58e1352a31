"""What runs for users: versions brought to an endpoint, changed under evidence, switched by a person, kept up."""

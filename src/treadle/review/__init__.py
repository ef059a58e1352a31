"""What people say to each other about the things of a project: notes, owners, notices, and requests for approval."""

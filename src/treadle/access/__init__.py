"""Who may do what: people, groups and roles; how they sign in; their sessions and tokens. Deny by default: what no role says is not allowed."""

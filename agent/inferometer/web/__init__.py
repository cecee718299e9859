"""Who may speak with the agent's server, and how: the web configuration file of Prometheus's exporters, put to work."""

"""Kedro's defaults, but the catalog may read environment variables."""

from omegaconf.resolvers import oc

CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local", "custom_resolvers": {"oc.env": oc.env}}

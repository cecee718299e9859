"""From the configuration's key ``kubernetes`` to the watch that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from inferometer.config.schema import Kubernetes
from inferometer.errors import ConfigError
from inferometer.sources.kubernetes import Cluster, PodWatch, Query, in_cluster


def cluster_of(settings: Kubernetes, environ: Mapping[str, str]) -> Cluster:
    """The API server that is named, else the cluster's own. ConfigError where there is neither."""
    own = in_cluster(environ)
    url = settings.api_url or (own.url if own is not None else "")
    if not url:
        raise ConfigError(["kubernetes: this is no pod of a cluster; give kubernetes.api_url, or take the key out"])
    token, authority = (own.token_file, own.ca_file) if own is not None and not settings.api_url else ("", "")
    return Cluster(url, settings.token_file or token, settings.ca_file or authority)


def pod_watch(settings: Kubernetes, environ: Mapping[str, str], clock: Callable[[], float]) -> PodWatch:
    """The watch, not begun."""
    return PodWatch(cluster_of(settings, environ), Query(settings.namespaces, settings.node), clock)

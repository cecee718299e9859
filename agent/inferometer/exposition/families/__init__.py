"""The metrics of the catalog, a file per subject."""

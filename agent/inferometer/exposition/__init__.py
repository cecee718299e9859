"""What readers see: the catalog of metrics, the pages rendered from a snapshot, and the server that hands them out."""

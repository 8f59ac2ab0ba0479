"""HTTP: routes, what requests may hold, what answers look like."""

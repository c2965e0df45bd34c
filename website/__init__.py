"""The course as a site: pages, how one is rendered, and how all are made. ``make site`` calls it."""

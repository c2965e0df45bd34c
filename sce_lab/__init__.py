"""SCE Lab: see the memory wall of large catalogs, and the losses that get around it."""

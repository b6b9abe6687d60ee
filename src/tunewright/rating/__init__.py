"""Human rating: blind answers of two or more systems on a local page, and what the votes say."""

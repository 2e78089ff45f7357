"""The components of the platform on AWS, one per file."""

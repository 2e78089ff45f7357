"""AWS services that only batch work uses. The only place in `batch` that imports an AWS SDK."""

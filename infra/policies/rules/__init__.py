"""The rules of the policy pack, one file per subject."""

"""The lake: object keys (`layout`), objects (`store`), Iceberg tables (`catalog`), truth (`ledger`)."""

"""The lake: keys (`layout`), objects (`store`), Iceberg tables (`catalog`), truth (`ledger`)."""

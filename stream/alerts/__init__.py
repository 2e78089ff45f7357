"""What wakes whom, and when: one source for Prometheus, Alertmanager, CloudWatch and runbooks.

    alert          the types of an alert and of its CloudWatch form
    rules          `ALERTS`: every alert as a value
    prometheus     renders deploy/prometheus/rules/headrace.yml from it

P1 pages: data is lost, late beyond reason, or nobody processes it. P2 is read in working hours:
what arrives is worse than promised. P3 is an e-mail: it costs more than it should. P4 shows on a
dashboard. Not here: who is paged (deploy/alertmanager, infra), what a metric means (`telemetry`).
"""

"""The orchestrator's face: Prefect flows, their deployments and artifacts, and the `rushes` command."""

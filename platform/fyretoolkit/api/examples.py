"""Examples of each body and resource, by the name of its schema. A contract test reads each with its own model."""

from __future__ import annotations

from typing import Any

_JOB = "job_01M82FPZ3M4V5N6P7Q8R9S0T1V"
_DEPLOYMENT = "dep_01M82FN15TQT5WCCHWG0SYBVXG"
_API = "https://api.example.com"
_KEY = "key_01M82FQ0A1B2C3D4E5F6G7H8J9"
_API_KEY: dict[str, Any] = {
    "id": _KEY,
    "object": "api_key",
    "name": "billing service",
    "scopes": ["read", "predict"],
    "organization": "org_01M82FQ0A1B2C3D4E5F6G7H8J8",
    "masked": f"sk_live_{_KEY}_****wxyz",
    "status": "active",
    "created": 1795379900,
    "expires_at": None,
    "revoked_at": None,
    "replaced_by": None,
}

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "PredictionRequest": [
        {
            "inputs": ["an utterly compelling film", "a complete waste of time"],
            "metadata": {"correlation_id": "order-7", "user_id": "u-42"},
        }
    ],
    "Prediction": [
        {
            "id": "pred_01M82FNH8T16KXP5GBAY415KX0",
            "object": "prediction",
            "created": 1795379873,
            "model": "sentiment-v1",
            "results": [
                {
                    "label": "positive",
                    "score": 0.7453,
                    "probabilities": {"negative": 0.2547, "positive": 0.7453},
                },
                {
                    "label": "negative",
                    "score": 0.9125,
                    "probabilities": {"negative": 0.9125, "positive": 0.0875},
                },
            ],
            "usage": {
                "latency_ms": 3.1,
                "queue_ms": 1.2,
                "compute_ms": 0.9,
                "batch_size": 2,
                "deployment": _DEPLOYMENT,
                "region": "us-east-1",
            },
            "metadata": {"correlation_id": "order-7", "user_id": "u-42"},
        }
    ],
    "BatchCreate": [
        {
            "input_url": "https://data.example.com/reviews.csv",
            "webhook": "https://app.example.com/hooks/fyre",
            "idempotency_key": "reviews-2026-11-22",
        }
    ],
    "JobRetry": [{"idempotency_key": "reviews-2026-11-22-again", "metadata": {"attempt": 2}}],
    "JobResource": [
        {
            "id": _JOB,
            "object": "batch_job",
            "status": "completed",
            "model": "sentiment-v1",
            "created": 1795379900,
            "started": 1795379901,
            "finished": 1795379913,
            "input_url": "https://data.example.com/reviews.csv",
            "output_format": "jsonl",
            "progress": {"processed": 117659, "total": 117659, "succeeded": 117656, "failed": 3},
            "queue_position": None,
            "expires_at": 1797971913,
            "retry_of": None,
            "output_url": f"{_API}/jobs/{_JOB}/output?token=eyJ…",
            "errors_url": f"{_API}/jobs/{_JOB}/errors?token=eyJ…",
            "error": None,
            "partial": False,
            "webhook": "https://app.example.com/hooks/fyre",
            "metadata": None,
        }
    ],
    "DeliveryResource": [
        {
            "id": "msg_01M82FQ7Y2Z3A4B5C6D7E8F9G0",
            "object": "delivery",
            "job": _JOB,
            "type": "batch.completed",
            "url": "https://app.example.com/hooks/fyre",
            "status": "delivered",
            "reason": None,
            "created": 1795379913,
            "delivered_at": 1795379919,
            "next_attempt_at": None,
            "attempts": [
                {
                    "at": 1795379913,
                    "duration_ms": 15001,
                    "status_code": None,
                    "error": "app.example.com did not answer within 15 s",
                },
                {"at": 1795379933, "duration_ms": 41, "status_code": 204, "error": None},
            ],
        }
    ],
    "WebhookSecretResource": [
        {
            "object": "webhook_secret",
            "secret": "whsec_YW4tZXhhbXBsZS10aGF0LXdhcy1uZXZlci1pc3N1ZWQ=",
            "created": 1795379900,
            "replaced": [{"created": 1795100000, "expires_at": 1795466300}],
        }
    ],
    "WebhookSecretRotate": [{"overlap_s": 3600}],
    "ModelResource": [
        {
            "id": "sentiment-v1",
            "object": "model",
            "status": "ready",
            "created": 1795379870,
            "description": "Sentiment of English film reviews.",
            "signature": {
                "inputs": [{"name": "text", "dtype": "string", "shape": [None]}],
                "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [None, 2]}],
            },
            "example": "an utterly compelling film",
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "size_bytes": 482133,
            "source_uri": "https://models.example.com/sentiment-v1.onnx",
            "deployments": [_DEPLOYMENT],
            "error": None,
        }
    ],
    "DeploymentCreate": [
        {
            "model_uri": "https://models.example.com/digits.onnx",
            "region": "us-east-1",
            "replicas": 2,
            "idempotency_key": "digits-2026-11-22",
        }
    ],
    "DeploymentResource": [
        {
            "id": _DEPLOYMENT,
            "object": "deployment",
            "status": "ready",
            "stage": "ready",
            "model": "digits",
            "version": "digits",
            "model_uri": "https://models.example.com/digits.onnx",
            "region": "us-east-1",
            "replicas": {"desired": 2, "ready": 2},
            "traffic": 100,
            "autoscaling": None,
            "batching": {
                "max_batch_size": 64,
                "reason": "measured",
                "rows_per_s": {"1": 67200.0, "2": 128500.0, "4": 258700.0, "8": 465500.0, "16": 765500.0}
                | {"32": 1356000.0, "64": 2201000.0},
                "max_difference": 2.98e-08,
            },
            "application": _DEPLOYMENT,
            "num_gpus": 0.0,
            "accelerator_type": None,
            "max_wait_s": None,
            "events": [{"at": 1795379900, "stage": "accepted", "message": "The request was accepted."}],
            "created": 1795379900,
            "updated": 1795379905,
            "endpoint": "/predict/digits",
            "error": None,
        }
    ],
    "MetricsResource": [
        {
            "deployment_id": _DEPLOYMENT,
            "object": "metrics",
            "period": "1h",
            "start": 1795376273,
            "end": 1795379873,
            "metrics": {
                "requests": {
                    "total": 1204,
                    "succeeded": 1198,
                    "failed": 4,
                    "rejected": 1,
                    "canceled": 1,
                    "per_second": 0.334444,
                },
                "latency": {
                    "total": {"mean": 3.9, "p50": 3.1, "p90": 6.2, "p95": 8.4, "p99": 21.7, "max": 48.2},
                    "queue": {"mean": 2.1, "p50": 1.6, "p90": 3.9, "p95": 5.5, "p99": 17.3, "max": 44.0},
                    "compute": {"mean": 1.2, "p50": 0.9, "p90": 1.8, "p95": 2.2, "p99": 4.1, "max": 6.3},
                },
                "errors": {
                    "rate": 0.00332226,
                    "by_code": {"deadline_exceeded": 1, "invalid_input": 3, "overloaded": 1},
                },
                "throughput": {"inputs": 2396, "inputs_per_second": 0.665556, "mean_batch_size": 4.2},
                "series": [
                    {"start": 1795379760, "requests": 21, "failed": 0, "p50": 3.0, "p99": 9.6},
                    {"start": 1795379820, "requests": 17, "failed": 1, "p50": 3.2, "p99": 12.9},
                ],
            },
        }
    ],
    "DeletedDeployment": [{"id": _DEPLOYMENT, "object": "deployment", "deleted": True}],
    "FileResource": [
        {
            "id": "file_01M82FQ0A1B2C3D4E5F6G7H8JA",
            "object": "file",
            "size_bytes": 15730219,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "filename": "reviews.csv",
            "created": 1795379900,
            "expires_at": 1797971900,
        }
    ],
    "DeletedFile": [{"id": "file_01M82FQ0A1B2C3D4E5F6G7H8JA", "object": "file", "deleted": True}],
    "Health": [{"status": "ok"}],
    "Readiness": [{"status": "ready", "checks": {"redis": "ok", "serve": "ok", "controller": "ok"}}],
    "ModelCreate": [
        {"id": "digits-v2", "model_uri": "https://models.example.com/digits.onnx"},
        {"id": "digits-v3", "status": "training", "description": "Digits, trained on more data."},
    ],
    "ModelPublish": [{"model_uri": "https://models.example.com/digits.onnx"}],
    "DeploymentChange": [
        {"replicas": 3},
        {"autoscaling": {"min_replicas": 1, "max_replicas": 4}},
        {"traffic": 10},
    ],
    "ApiKeyCreate": [{"name": "billing service", "scopes": ["read", "predict"]}],
    "ApiKeyRotate": [{"overlap_s": 3600}],
    "ApiKeyResource": [_API_KEY],
    "CreatedApiKey": [{**_API_KEY, "key": f"sk_live_{_KEY}_an-example-this-key-was-never-issued-00wxyz"}],
    "OrganizationCreate": [{"name": "Acme", "plan": "pro"}],
    "OrganizationChange": [{"plan": "pro"}],
    "OrganizationResource": [
        {
            "id": "org_01M82FQ0A1B2C3D4E5F6G7H8J8",
            "object": "organization",
            "name": "Acme",
            "plan": "pro",
            "created": 1795379900,
            "api_key": None,
        }
    ],
    "NodeResource": [
        {
            "id": "3a4d1c0f6b7e8899aabbccddeeff00112233445566778899aabbccdd",
            "object": "node",
            "alive": True,
            "head": True,
            "regions": ["us-east-1"],
            "labels": {"region": "us-east-1"},
            "cpus": {"total": 16, "free": 11.5},
            "gpus": {"total": 1, "free": 0.5},
            "memory_bytes": {"total": 68719476736, "free": 60129542144},
            "deployments": [{"id": _DEPLOYMENT, "replicas": 2}],
            "observed_at": 1795379913,
        }
    ],
    "EmptyRequest": [{}],
}

"""Ways to break the contract, one line each: the conformance tests of the section must notice every one.

A replacement whose text is no longer in the product is an error, to be corrected with the change that moved it.
"""

from __future__ import annotations

from tests.support.copies import Violation

API = "platform/fyretoolkit/api"
ROUTES = f"{API}/routes"
SCHEMAS = "platform/fyretoolkit/schemas"
CORE = "platform/fyretoolkit/core"
STORE = "platform/fyretoolkit/store"
SERVING = "platform/fyretoolkit/serving"

VIOLATIONS = (
    Violation(
        "401 without a challenge",
        f"{API}/responses.py",
        "if error.status == 401:",
        "if error.status == 499:",
        ("auth",),
    ),
    Violation(
        "another message for an unknown key",
        f"{API}/auth.py",
        'is not KeyStatus.ACTIVE:\n        raise PlatformError("invalid_api_key")',
        'is not KeyStatus.ACTIVE:\n        raise PlatformError("invalid_api_key", "" if found else "Unknown.")',
        ("auth",),
    ),
    Violation(
        "a revoked key goes on working",
        f"{CORE}/api_keys.py",
        "if is_expired or self.revoked_at is not None else",
        "if is_expired else",
        ("auth",),
    ),
    Violation(
        "scopes are not looked at",
        f"{API}/auth.py",
        "    if scope not in principal.scopes:",
        "    if scope not in principal.scopes and not principal.scopes:",
        ("auth",),
    ),
    Violation(
        "a foreign job is readable",
        f"{STORE}/jobs.py",
        "        stored = await self._store.read_hash(keys.job(org, job_id))\n        return from_hash",
        '        others = [key async for key in self._store.redis.scan_iter(f"fyre:org:*:job:{job_id}")]\n'
        "        stored = await self._store.read_hash(others[0] if others else keys.job(org, job_id))\n"
        "        return from_hash",
        ("auth", "jobs"),
    ),
    Violation(
        "a foreign API key is readable",
        f"{STORE}/api_keys.py",
        "return key if key is not None and key.org == org else None",
        "return key",
        ("auth", "keys"),
    ),
    Violation(
        "a 404 that names what was asked for",
        f"{ROUTES}/jobs.py",
        'if job is None:\n        raise PlatformError("job_not_found")',
        'if job is None:\n        raise PlatformError("job_not_found", f"No job {job_id}. Check the id.")',
        ("auth", "jobs"),
    ),
    Violation(
        "the secret's digest shown in the list",
        f"{CORE}/api_keys.py",
        'return f"sk_live_{self.id}_****{self.hint}"',
        'return f"sk_live_{self.id}_{self.digest}"',
        ("keys",),
    ),
    Violation(
        "the last admin key can be revoked",
        f"{STORE}/scripts/revoke_api_key.lua",
        "if own_end and is_admin and is_last_admin(KEYS[2], ARGV[3], ARGV[1], own_end) then return 'last_admin' end",
        "",
        ("keys",),
    ),
    Violation(
        "a key may hand out scopes that it lacks",
        f"{ROUTES}/api_keys.py",
        "    _require_all(principal, body.scopes)\n",
        "",
        ("keys",),
    ),
    Violation(
        "Remaining does not fall",
        f"{CORE}/limits.py",
        "remaining=max(0, limit - answer.counted),",
        "remaining=limit,",
        ("limits",),
    ),
    Violation(
        "each replica counts for itself",
        f"{STORE}/limits.py",
        "log = keys.request_log(org, key_id, category)",
        "log = keys.request_log(org, key_id + self._replica, category)",
        ("limits",),
    ),
    Violation(
        "429 without Retry-After",
        f"{API}/limits.py",
        "            retry_after_s=seconds,\n",
        "",
        ("limits",),
    ),
    Violation(
        "one request more than the limit",
        f"{STORE}/scripts/log_request.lua",
        "if counted >= limit then",
        "if counted > limit then",
        ("limits",),
    ),
    Violation(
        "refused requests are not counted",
        f"{API}/dependencies.py",
        "    await services.limits.count(principal, category_of(scope, needed), exchange.headers)\n"
        "    require(principal, needed)\n",
        "    require(principal, needed)\n"
        "    await services.limits.count(principal, category_of(scope, needed), exchange.headers)\n",
        ("limits",),
    ),
    Violation(
        "has_more at the end",
        f"{API}/pages.py",
        "return found[:limit], len(found) > limit",
        "return found[:limit], len(found) >= limit",
        ("pages",),
    ),
    Violation(
        "the cursor's object comes again",
        f"{STORE}/connection.py",
        'top = f"({below}" if below else "+"',
        'top = f"[{below}" if below else "+"',
        ("pages",),
    ),
    Violation(
        "any cursor is taken",
        f"{API}/pages.py",
        "if cursor is not None and not is_id(cursor, prefix):",
        "if cursor is not None and not cursor:",
        ("pages",),
    ),
    Violation(
        "oldest first",
        f"{ROUTES}/jobs.py",
        "data=await _resources_of(services, request, found), has_more",
        "data=await _resources_of(services, request, found[::-1]), has_more",
        ("pages",),
    ),
    Violation(
        "limit up to 1000",
        f"{SCHEMAS}/pages.py",
        "Field(ge=1, le=MAX_LIMIT,",
        "Field(ge=1, le=1000,",
        ("pages",),
    ),
    Violation(
        "unknown fields are ignored",
        f"{SCHEMAS}/wire.py",
        'extra="forbid", strict=True',
        'extra="ignore", strict=True',
        ("errors",),
    ),
    Violation(
        "numbers are read from text",
        f"{SCHEMAS}/wire.py",
        'extra="forbid", strict=True',
        'extra="forbid", strict=False',
        ("errors",),
    ),
    Violation(
        "another request id in the header than in the body",
        f"{API}/edge.py",
        'own = [(b"x-request-id", self._exchange.request_id.encode()),',
        'own = [(b"x-request-id", self._exchange.request_id[::-1].encode()),',
        ("errors",),
    ),
    Violation(
        "a traceback in the 500",
        f"{API}/edge.py",
        '        return PlatformError("internal_error")\n',
        '        return PlatformError("internal_error", f"Traceback: {error!r}")\n',
        ("errors",),
    ),
    Violation(
        "405 without Allow",
        f"{API}/app.py",
        "if failure.status == 405 else {}",
        "if failure.status == 499 else {}",
        ("errors",),
    ),
    Violation(
        "an answer that is not the described one",
        f"{SERVING}/predict.py",
        '"object":"prediction",',
        '"object":"predictions",',
        ("schemathesis",),
    ),
    Violation(
        "a replay that does not say so",
        f"{API}/idempotency.py",
        '    response.headers[REPLAYED] = "true"\n',
        "",
        ("idempotency",),
    ),
    Violation(
        "a reused key is answered with the first answer",
        f"{API}/idempotency.py",
        'if stored["fingerprint"] != claim.fingerprint:',
        'if not stored["fingerprint"]:',
        ("idempotency",),
    ),
    Violation(
        "one idempotency scope for all paths",
        f"{API}/idempotency.py",
        "return f\"{request.method} {request.scope['path']}\"",
        "return request.method",
        ("idempotency",),
    ),
    Violation(
        "NaN reaches the model",
        "platform/fyretoolkit/models/tensors.py",
        "if self.spec.dtype in FLOATS and not np.isfinite(row).all():",
        "if self.spec.dtype in FLOATS and not np.isfinite(row).any():",
        ("predict",),
    ),
    Violation(
        "metadata is dropped",
        f"{SERVING}/predict.py",
        'b"" if metadata is None else',
        'b"" if metadata is None or metadata else',
        ("predict",),
    ),
    Violation(
        "one input too many is taken",
        f"{SERVING}/parsing.py",
        "if len(request.inputs) > limits.max_inputs:",
        "if len(request.inputs) > limits.max_inputs + 1:",
        ("predict",),
    ),
    Violation(
        "an unknown region is 400",
        f"{CORE}/errors.py",
        '"invalid_region": _kind(422,',
        '"invalid_region": _kind(400,',
        ("predict", "errors"),
    ),
    Violation(
        "201 for a batch job",
        f"{ROUTES}/jobs.py",
        "return created(creation, answer, status=202, collection=COLLECTION)",
        "return created(creation, answer, status=201, collection=COLLECTION)",
        ("batch",),
    ),
    Violation(
        "a webhook's address is not checked",
        f"{ROUTES}/jobs.py",
        '"input_url", body.input_url)\n    if body.webhook is not None:\n        check_address',
        '"input_url", body.input_url)\n    if body.webhook is not None and not body.webhook:\n        check_address',
        ("batch",),
    ),
    Violation(
        "Range is ignored",
        f"{API}/responses.py",
        "if len(ranges) != 1 or not is_one_range(ranges[0]):",
        "if ranges:",
        ("jobs",),
    ),
    Violation(
        "a signature opens any file of its job",
        f"{CORE}/downloads.py",
        "return org if names == [job_id, kind] and",
        "return org if names[0] == job_id and",
        ("jobs",),
    ),
    Violation(
        "a completed job can be canceled",
        f"{ROUTES}/jobs.py",
        "    if status is not JobStatus.CANCELED:\n",
        "    if status is JobStatus.QUEUED:\n",
        ("jobs",),
    ),
    Violation(
        "a public model is changed like an own one",
        f"{ROUTES}/models.py",
        "    if model.org != PUBLIC_ORG:\n        return model\n",
        "    if model.org:\n        return model\n",
        ("models",),
    ),
    Violation(
        "a model in use is not refused",
        f"{ROUTES}/models.py",
        "if in_use_by := await services.models.archive(model):",
        "if not (in_use_by := await services.models.archive(model) or ['none']):",
        ("models",),
    ),
    Violation(
        "deleted deployments stay in the list",
        f"{ROUTES}/deployments.py",
        "return deployment.status not in _GONE",
        "return deployment.status is not None",
        ("deployments",),
    ),
    Violation(
        "failures are counted twice",
        f"{CORE}/metrics.py",
        "return self.succeeded + self.failed + self.rejected + self.canceled",
        "return self.succeeded + 2 * self.failed + self.rejected + self.canceled",
        ("metrics",),
    ),
    Violation(
        "a digest of something else",
        f"{ROUTES}/files.py",
        "        sha256=upload.spool.sha256,\n",
        "        sha256=upload.spool.sha256[::-1],\n",
        ("files",),
    ),
    Violation(
        "a file without its name",
        f"{ROUTES}/files.py",
        "        filename=upload.filename,\n",
        '        filename="upload",\n',
        ("files",),
    ),
)

-- What wrk posts: an event of about 600 bytes, in the shape of Claude MPM's hooks.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"namespace":"hook","event":"claude_event","data":{"type":"hook","subtype":"pre_tool",'
  .. '"timestamp":"2026-01-01T00:00:00.000000Z","session_id":"7c1f0f2e-5d4b-4c58-9d59-3f6a4a0b9d11","source":"hook",'
  .. '"data":{"tool_name":"Bash","session_id":"7c1f0f2e-5d4b-4c58-9d59-3f6a4a0b9d11","cwd":"/home/u/project","pad":"'
  .. string.rep("x", 280)
  .. '"}}}'

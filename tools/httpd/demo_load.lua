-- SPDX-License-Identifier: MIT
-- For wrk: asks for the files named in the file PATHS, each thread in an order
-- of its own, and prints the results as JSON.
local threads = 0

function setup(thread)
	thread:set("seed", threads)
	threads = threads + 1
end

function init(_)
	math.randomseed(seed)
	requests = {}
	for path in io.lines(os.getenv("PATHS")) do
		table.insert(requests, math.random(#requests + 1), wrk.format("GET", path))
	end
	position = 0
end

function request()
	position = position % #requests + 1
	return requests[position]
end

function done(summary, latency, _)
	local errors = summary.errors
	io.write(string.format(
		'JSON {"requests": %d, "microseconds": %d, "bytes": %d, "p50": %d, "p90": %d, ' ..
		'"p99": %d, "max": %d, "bad_status": %d, "bad_socket": %d, "timeouts": %d}\n',
		summary.requests, summary.duration, summary.bytes, latency:percentile(50),
		latency:percentile(90), latency:percentile(99), latency.max, errors.status,
		errors.connect + errors.read + errors.write, errors.timeout))
end

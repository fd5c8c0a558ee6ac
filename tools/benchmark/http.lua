-- SPDX-License-Identifier: MIT
-- What http.py wants to know of a run of wrk, as a line of JSON.

done = function(summary)
	local errors = summary.errors
	io.write(string.format('JSON {"microseconds": %d, "requests": %d, "errors": %d}\n',
		summary.duration, summary.requests, errors.connect + errors.read +
		errors.write + errors.status + errors.timeout))
end

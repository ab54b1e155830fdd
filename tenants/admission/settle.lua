-- End a request: give back what its hold did not use, and append its usage report.
--
-- KEYS: the hold, the index of holds, the stream of usage reports.
-- ARGV: request id, tokens really used, the report ("" for none).
-- The keys of the limits are read from the hold itself, so that whoever settles
-- (gateway, worker or reconciler) needs to know nothing but the request id.
-- Returns 1 when this call settled the hold, 0 when it was settled or lost before;
-- the report is appended either way, because the ledger counts a request id once.
if ARGV[3] ~= '' then
  redis.call('XADD', KEYS[3], '*', 'report', ARGV[3])
end
local packed = redis.call('HGET', KEYS[1], 'held')
if not packed then
  return 0
end
local used = tonumber(ARGV[2])
for _, limit in ipairs(cmsgpack.unpack(packed)) do
  local kind, unit, key, cost, interval = unpack(limit)
  if kind == 'gauge' then
    redis.call('ZREM', key, ARGV[1])
  elseif unit == 'tokens' and cost ~= used then
    if kind == 'bucket' then
      local arrival = tonumber(redis.call('GET', key) or 0)
      if arrival > 0 or used > cost then
        local clock = redis.call('TIME')
        local now = clock[1] * 1000 + clock[2] / 1000
        local after = math.max(arrival, used > cost and now or 0) + (used - cost) * interval
        if after > now then
          redis.call('SET', key, string.format('%.4f', after), 'PX', math.ceil(after - now) + 1000)
        else
          redis.call('DEL', key)
        end
      end
    elseif redis.call('EXISTS', key) == 1 then
      redis.call('INCRBY', key, used - cost)
    end
  end
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1

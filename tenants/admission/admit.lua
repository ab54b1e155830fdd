-- Check every limit of one request, then reserve all of them or none.
--
-- KEYS: the hold, the index of holds, the stream of usage reports, then one a limit.
-- ARGV: request id, hold expiry (ms), note, most usage reports that may wait, then
--       for each limit: kind, unit, limit, cost, period (ms).
-- Kinds: "bucket" a smooth token bucket kept as GCRA's theoretical arrival time
--        (ITU-T I.371), so one number a bucket and no refill loop;
--        "gauge"  requests in flight, a sorted set scored by their expiry;
--        "quota"  a counter whose key names its calendar month.
-- Returns {1, 0, 0, remaining, reset ms, …} admitted: what is left after this request,
--         {0, index of the limit, retry after ms, remaining, reset ms, …} refused: what
--         is left now; a cost above the whole limit has a retry of 1e15, which is never,
--         {-1} when usage is not being recorded and money must not be spent.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000

if redis.call('XLEN', KEYS[3]) >= tonumber(ARGV[4]) then
  return {-1}
end

local NEVER = 1e15
local refused, retry_ms = 0, -1
local answer = {1, 0, 0}
local remains, resets, intervals = {}, {}, {}
local count = #KEYS - 3
for i = 1, count do
  local key, at = KEYS[i + 3], 5 * i
  local kind = ARGV[at]
  local limit, cost, period = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local remaining, reset, wait, interval = 0, 0, -1, 0
  if kind == 'bucket' then
    interval = period / limit
    reset = math.max(tonumber(redis.call('GET', key) or 0) - now, 0)
    remaining = (period - reset) / interval
    local missing = reset + cost * interval - period
    if missing > 0.001 then
      wait = missing
    end
  elseif kind == 'gauge' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    remaining = limit - redis.call('ZCARD', key)
    if remaining < cost then
      -- Nobody knows when a request ends; a second is a fair time to ask again.
      wait = 1000
    end
  else
    remaining = limit - tonumber(redis.call('GET', key) or 0)
    reset = period
    if remaining < cost then
      wait = period
    end
  end
  if wait >= 0 and cost > limit then
    wait = NEVER
  end
  if wait > retry_ms then
    refused, retry_ms = i, wait
  end
  remains[i], resets[i], intervals[i] = remaining, reset, interval
  answer[2 + 2 * i] = math.max(0, math.floor(remaining + 0.0001))
  answer[3 + 2 * i] = math.ceil(reset)
end

if refused > 0 then
  answer[1], answer[2], answer[3] = 0, refused, math.ceil(retry_ms)
  return answer
end

local expiry = now + tonumber(ARGV[2])
local held = {}
for i = 1, count do
  local key, at = KEYS[i + 3], 5 * i
  local kind, unit, cost, period = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local interval = intervals[i]
  local reset = resets[i] + cost * interval
  answer[2 + 2 * i] = math.max(0, math.floor(remains[i] - cost + 0.0001))
  answer[3 + 2 * i] = math.ceil(reset)
  if kind == 'bucket' then
    redis.call('SET', key, string.format('%.4f', now + reset), 'PX', math.ceil(reset) + 1000)
  elseif kind == 'gauge' then
    redis.call('ZADD', key, expiry, ARGV[1])
    redis.call('PEXPIRE', key, tonumber(ARGV[2]))
  else
    redis.call('INCRBY', key, cost)
    redis.call('PEXPIRE', key, period + 86400000)
  end
  held[i] = {kind, unit, key, cost, interval}
end
redis.call('HSET', KEYS[1], 'note', ARGV[3], 'held', cmsgpack.pack(held))
redis.call('ZADD', KEYS[2], expiry, ARGV[1])
return answer

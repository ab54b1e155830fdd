-- Check every limit of one request, then reserve all of them or none.
--
-- KEYS: the hold, the index of holds, the stream of usage reports, then the state of each
--       subject that has a limit.
-- ARGV: request id; the numbers, the last of which is how many of the requests at once it is
--       (1 or 0); for each subject its nine limits, -1 for none; what the hold remembers
--       beside month and slot.
-- Returns {1, 0, 0, 0, headers…} admitted,
--         {0, subject, limit (1 to 9, its place below), retry after ms, headers…} refused,
--         {-1} usage is not being recorded, and money must not be spent,
--         {-2, month, subject, doubts, …} the sums of these subjects must be seeded first.
-- Headers: limit, what is left and ms until full of the tightest bucket of requests, then
-- of tokens; -1 where there is none. A retry of 1e15 is never.
local NEVER = 1e15
local MINUTE, HOUR, DAY = 60000, 3600000, 86400000
-- Nobody knows when a request ends; a second is a fair time to ask again.
local PLACE_WAIT = 1000
local max, pack, unpacked = math.max, struct.pack, struct.unpack

local tokens, most_tokens, most_micros, lease, keep, most_reports, month, month_at, month_end,
  later, places = unpacked('<ddddddddddd', ARGV[2])
if redis.call('XLEN', KEYS[3]) >= most_reports then
  return {-1}
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
-- The gateway says when months begin, Redis's clock which one it is.
if now < month_at then
  month, month_end = month - 1, month_at
elseif now >= month_end then
  month, month_end = month + 1, later
end
local slot_now = math.floor(now / lease)

local subject, refused_by, refused, longest = 0, 0, 0, -1
local function refuse(limit, wait)
  if wait > longest then
    refused_by, refused, longest = subject, limit, wait
  end
end

-- The ms from now until a bucket is full again if the request is admitted.
local requests_left, requests_limit, requests_ms, requests_after = NEVER, -1, 0, 0
local tokens_left, tokens_limit, tokens_ms, tokens_after = NEVER, -1, 0, 0
local function requests_bucket(number, backlog, elapsed, limit, period)
  backlog = backlog > elapsed and backlog - elapsed or 0
  if limit < 0 then
    return backlog
  end
  local after = backlog + period / limit
  if after > period + 0.001 then
    refuse(number, limit < 1 and NEVER or after - period)
  end
  local left = (period - backlog) * limit / period
  if left < requests_left then
    requests_left, requests_limit, requests_ms, requests_after = left, limit, backlog, after
  end
  return after
end
local function tokens_bucket(number, backlog, elapsed, limit, period)
  backlog = backlog > elapsed and backlog - elapsed or 0
  if limit < 0 then
    return backlog
  end
  local after = backlog + tokens * period / limit
  if after > period + 0.001 or limit == 0 then
    refuse(number, tokens > limit and NEVER or after - period)
  end
  local left = (period - backlog) * limit / period
  if left < tokens_left then
    tokens_left, tokens_limit, tokens_ms, tokens_after = left, limit, backlog, after
  end
  return after
end
local function spend(number, limit, used, cost, wait)
  if limit >= 0 and cost > 0 and used + cost > limit then
    refuse(number, cost > limit and NEVER or wait)
  end
end

local states = #KEYS > 3 and redis.call('MGET', unpack(KEYS, 4)) or {}
local fresh, unknown = {}, {-2, month}
for i = 1, #states do
  subject = i
  local rpm, rph, rpd, tpm, tpd, at_once, monthly, budget, credit =
    unpacked('<ddddddddd', ARGV[3], 72 * i - 71)
  local seen, b1, b2, b3, b4, b5, slot, running, earlier, counted, used, held, spent, spent_held,
    life, life_held, doubts = unpacked(STATE, state_or_empty(states[i]))
  if counted ~= month then
    -- A month that begins has used nothing. A clock that was set back has not seen it begin.
    local is_known = counted < month and used >= 0
    used, spent = is_known and 0 or -1, is_known and 0 or -1
    counted, held, spent_held = month, 0, 0
  end
  if slot < slot_now then
    earlier, running, slot = slot == slot_now - 1 and running or 0, 0, slot_now
  elseif slot > slot_now + 1 then
    slot = slot_now
  end
  if (used < 0 and (monthly >= 0 or budget >= 0)) or (life < 0 and credit >= 0) then
    unknown[#unknown + 1], unknown[#unknown + 2] = i, doubts
    redis.call('SET', KEYS[i + 3], pack(STATE, seen, b1, b2, b3, b4, b5, slot, running, earlier,
      counted, used, held, spent, spent_held, life, life_held, doubts), 'PX', keep)
  elseif #unknown == 2 then
    local elapsed = max(now - seen, 0)
    b1 = requests_bucket(1, b1, elapsed, rpm, MINUTE)
    b2 = requests_bucket(2, b2, elapsed, rph, HOUR)
    b3 = requests_bucket(3, b3, elapsed, rpd, DAY)
    b4 = tokens_bucket(4, b4, elapsed, tpm, MINUTE)
    b5 = tokens_bucket(5, b5, elapsed, tpd, DAY)
    if at_once >= 0 and running + earlier >= at_once then
      refuse(6, at_once == 0 and NEVER or PLACE_WAIT)
    end
    spend(7, monthly, used + held, most_tokens, month_end - now)
    spend(8, budget, spent + spent_held, most_micros, month_end - now)
    spend(9, credit, life + life_held, most_micros, NEVER)
    fresh[i] = pack(STATE, now, b1, b2, b3, b4, b5, slot, running + places, earlier, counted, used,
      held + most_tokens, spent, spent_held + most_micros, life, life_held + most_micros, doubts)
  end
end
if #unknown > 2 then
  return unknown
end

-- What was computed a hair under a whole number is that number.
requests_left, tokens_left = requests_left + 0.0001, tokens_left + 0.0001
if refused > 0 then
  return {0, refused_by, refused, math.ceil(longest), requests_limit, requests_left,
    math.ceil(requests_ms), tokens_limit, tokens_left, math.ceil(tokens_ms)}
end
for i = 1, #fresh do
  redis.call('SET', KEYS[i + 3], fresh[i], 'PX', keep)
end
-- What took no place gives none back: no slot is as old as this one.
local slot_held = places > 0 and slot_now or -2
redis.call('SET', KEYS[1], pack('<dd', month, slot_held) .. ARGV[4], 'PX', keep)
redis.call('ZADD', KEYS[2], now + lease, ARGV[1])
redis.call('PEXPIRE', KEYS[2], keep)
return {1, 0, 0, 0, requests_limit, requests_left - 1, math.ceil(requests_after), tokens_limit,
  tokens_left - tokens, math.ceil(tokens_after)}

-- Check every limit of some requests, one after the other: reserve all of one's limits or none.
--
-- KEYS: the index of holds, the stream of usage reports, then each request's hold, then the
--       state of each subject that has a limit and counts for one of them.
-- ARGV: the numbers of all: how many requests, the longest that a state is kept, the lease, the
--       most reports, and the months; then for each request its id; its own numbers, the
--       last of which is how many of the requests at once it is (1 or 0); which of the states
--       count for it, a byte each; the nine limits of each of those, -1 for none; and what
--       its hold remembers beside month and slot.
-- Returns for each request
--         {1, 0, 0, 0, headers…} admitted,
--         {0, subject, limit (1 to 9, its place below), retry after ms, headers…} refused,
--         {-1} usage is not being recorded, and money must not be spent,
--         {-2, month, subject, doubts, …} the sums of these subjects must be seeded first.
-- Headers: limit, what is left and ms until full of the tightest bucket of requests, then
-- of tokens; -1 where there is none. A retry of 1e15 is never.
local NEVER = 1e15
local MINUTE, HOUR, DAY = 60000, 3600000, 86400000
-- Nobody knows when a request ends; a second is a fair time to ask again.
local PLACE_WAIT = 1000
local pack, unpacked, call = struct.pack, struct.unpack, redis.call

local count, keep, lease, most_reports, month, month_at, month_end, later =
  unpacked('<dddddddd', ARGV[1])
local answers = {}
if call('XLEN', KEYS[2]) >= most_reports then
  for i = 1, count do
    answers[i] = {-1}
  end
  return answers
end
local clock = call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
-- The gateway says when months begin, Redis's clock which one it is.
if now < month_at then
  month, month_end = month - 1, month_at
elseif now >= month_end then
  month, month_end = month + 1, later
end
local slot_now = math.floor(now / lease)
local first_state = 2 + count
local states = #KEYS > first_state and call('MGET', unpack(KEYS, first_state + 1)) or {}
local changed = {}

-- Of the request that is looked at.
local tokens, subject, refused_by, refused, longest
local requests_left, requests_limit, requests_ms, requests_after
local tokens_left, tokens_limit, tokens_ms, tokens_after
local function refuse(limit, wait)
  if wait > longest then
    refused_by, refused, longest = subject, limit, wait
  end
end

-- The ms from now until a bucket is full again if the request is admitted.
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

local function admit(at, hold_key)
  local most_tokens, most_micros, places
  tokens, most_tokens, most_micros, places = unpacked('<dddd', ARGV[at + 1])
  local indexes, limits = ARGV[at + 2], ARGV[at + 3]
  refused_by, refused, longest = 0, 0, -1
  requests_left, requests_limit, requests_ms, requests_after = NEVER, -1, 0, 0
  tokens_left, tokens_limit, tokens_ms, tokens_after = NEVER, -1, 0, 0
  local fresh, unknown = {}, {-2, month}
  for i = 1, #indexes do
    subject = i
    local index = indexes:byte(i)
    local rpm, rph, rpd, tpm, tpd, at_once, monthly, budget, credit =
      unpacked('<ddddddddd', limits, 72 * i - 71)
    local seen, b1, b2, b3, b4, b5, slot, running, earlier, counted, used, held, spent, spent_held,
      life, life_held, doubts = unpacked(STATE, state_or_empty(states[index]))
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
      states[index] = pack(STATE, seen, b1, b2, b3, b4, b5, slot, running, earlier, counted, used,
        held, spent, spent_held, life, life_held, doubts)
      changed[index] = true
    elseif #unknown == 2 then
      local elapsed = now > seen and now - seen or 0
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
      fresh[i] = pack(STATE, now, b1, b2, b3, b4, b5, slot, running + places, earlier, counted,
        used, held + most_tokens, spent, spent_held + most_micros, life, life_held + most_micros,
        doubts)
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
  for i = 1, #indexes do
    local index = indexes:byte(i)
    states[index], changed[index] = fresh[i], true
  end
  -- What took no place gives none back: no slot is as old as this one.
  local slot_held = places > 0 and slot_now or -2
  call('SET', hold_key, pack('<dd', month, slot_held) .. ARGV[at + 4], 'PX', keep)
  return {1, 0, 0, 0, requests_limit, requests_left - 1, math.ceil(requests_after), tokens_limit,
    tokens_left - tokens, math.ceil(tokens_after)}
end

local held = {}
for i = 1, count do
  local at = 5 * i - 3
  answers[i] = admit(at, KEYS[2 + i])
  if answers[i][1] == 1 then
    held[#held + 1], held[#held + 2] = now + lease, ARGV[at]
  end
end
for index in pairs(changed) do
  call('SET', KEYS[first_state + index], states[index], 'PX', keep)
end
if #held > 0 then
  call('ZADD', KEYS[1], unpack(held))
  call('PEXPIRE', KEYS[1], keep)
end
return answers

-- End a request: give back what its hold did not use, and append its usage report.
--
-- KEYS: the hold, the index of holds, the stream of usage reports.
-- ARGV: request id, tokens really used, micro-dollars that they cost, the report ("" for
--       none), the longest that a state is kept (ms).
-- The hold says which states it took from, so that whoever settles (gateway, worker or
-- reconciler) needs to know nothing but the request id.
-- Returns 1 when this call settled the hold, 0 when it was settled or lost before;
-- the report is appended either way, because the ledger counts a request id once.
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[3], '*', 'report', ARGV[4])
end
local hold = redis.call('GET', KEYS[1])
if not hold then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])

local MINUTE, DAY = 60000, 86400000
local max, min, pack, unpacked = math.max, math.min, struct.pack, struct.unpack
local used, cost, keep = max(0, tonumber(ARGV[2])), max(0, tonumber(ARGV[3])), tonumber(ARGV[5])
local month, slot_held, tokens, most_tokens, most_micros, limited, count, at =
  unpacked('<dddddBB', hold)
local keys, minute_steps, day_steps = {}, {}, {}
for i = 1, count do
  minute_steps[i], day_steps[i], keys[i], at = unpacked('<ddHc0', hold, at)
end
-- Only a debt needs the time: giving back commutes with the flow of a bucket.
local now = 0
if used > tokens then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + clock[2] / 1000
end

local states = redis.call('MGET', unpack(keys))
for i = 1, count do
  if states[i] or i <= limited then
    local seen, b1, b2, b3, b4, b5, slot, running, earlier, counted, sum, held, spent, spent_held,
      life, life_held, doubts = unpacked(STATE, state_or_empty(states[i]))
    if now > seen then
      local elapsed = now - seen
      b1, b2, b3 = max(b1 - elapsed, 0), max(b2 - elapsed, 0), max(b3 - elapsed, 0)
      b4, b5, seen = max(b4 - elapsed, 0), max(b5 - elapsed, 0), now
    end
    if counted < month then
      sum, spent = sum >= 0 and 0 or -1, sum >= 0 and 0 or -1
      counted, held, spent_held = month, 0, 0
    end
    if i <= limited then
      -- A debt is remembered for one period: a mad report must not lock anybody out for ever.
      b4 = min(max(b4 + (used - tokens) * minute_steps[i], 0), 2 * MINUTE)
      b5 = min(max(b5 + (used - tokens) * day_steps[i], 0), 2 * DAY)
      if slot_held >= slot - 1 then
        -- A clock set back may have put the request into the slot beside its own.
        if running > 0 and (slot_held >= slot or earlier == 0) then
          running = running - 1
        else
          earlier = max(earlier - 1, 0)
        end
      end
      if counted == month then
        held, spent_held = max(held - most_tokens, 0), max(spent_held - most_micros, 0)
      end
      life_held = max(life_held - most_micros, 0)
    end
    if counted == month and sum >= 0 then
      sum, spent = sum + used, spent + cost
    end
    if life >= 0 then
      life = life + cost
    end
    if sum < 0 or life < 0 then
      doubts = doubts + 1
    end
    local ttl = keep
    if sum < 0 and life < 0 and running + earlier == 0 and held == 0 then
      ttl = math.ceil(max(b1, b2, b3, b4, b5)) + 60000
    end
    redis.call('SET', keys[i], pack(STATE, seen, b1, b2, b3, b4, b5, slot, running, earlier,
      counted, sum, held, spent, spent_held, life, life_held, doubts), 'PX', ttl)
  end
end
return 1

"""`ebbmq perf`: load for any AMQP 0-9-1 broker, in lavinmqperf's and PerfTest's words, and what came of it.

Publishers and consumers are processes of their own, forked before anything else runs; `client` talks, `crew` starts,
watches and ends them, `board` is the memory they share, and each scenario is a room.
"""

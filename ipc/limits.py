"""Every bound that is not a setting, in one place; a name ends in its unit, and each says what it protects."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# AMQP 0-9-1 -----------------------------------------------------------------------------------------------------------
FRAME_OVERHEAD_BYTES: Final = 8  # type 1, channel 2, size 4, end octet 1
FRAME_BYTES_MIN: Final = 4096  # specification §4.2.3: both sides must accept this much before negotiation
SHORT_STRING_BYTES_MAX: Final = 255
NEGOTIATION_FRAME_BYTES_MAX: Final = 16 * KIB  # client properties are the largest thing sent before tune
NEGOTIATION_UNREAD_BYTES_MAX: Final = 64 * KIB  # travels in one ipc packet beside the descriptor
TABLE_NESTING_MAX: Final = 32  # deeper header tables are bombs, not data
TABLE_FIELDS_MAX: Final = 4096

# before a client belongs to a shard -----------------------------------------------------------------------------------
VHOST_PATIENCE_SECONDS: Final = 5.0  # how long a client may wait for a vhost whose shard is restarting
OWNER_RETRY_SECONDS: Final = 0.05  # between noticing that a shard just died and asking who has its vhost now
CLOSE_OK_SECONDS: Final = 2.0  # how long a refused client may take to answer connection.close, or just to hang up
REFUSED_LOGIN_SECONDS: Final = 1.0  # what a wrong password costs whoever guesses
LINGER_BYTES_MAX: Final = (
    64 * KIB
)  # read and dropped after our last word, so that the kernel does not reset before it is heard
ACCEPTS_PER_TURN: Final = 32  # connections taken from one listener before other tasks run
GUESTS_LOOK_SECONDS: Final = 1.0  # between two looks for clients that have negotiated for too long
DESCRIPTORS_SHORT_SECONDS: Final = 0.25  # pause of the accept loop when there are no descriptors left
FREE_PORT_TRIES: Final = 16  # port 0 on several addresses: the same number must be free on all of them
PASSWORD_CHECKS_MAX: Final = 2  # argon2 runs at once, 19 MiB each
GUESSES_REMEMBERED_MAX: Final = (
    4096  # users, addresses and pairs of them: more than can be wrong within the default seconds
)
LOGINS_KNOWN_MAX: Final = 4096  # pairs of user and address that others' guesses do not keep out
ATTEMPT_SOURCES_MAX: Final = 1024  # whose attempts to log in are counted by themselves, if that is asked for
LOGINS_REMEMBERED_MAX: Final = 1024
LOGIN_REMEMBERED_SECONDS: Final = 60.0
USER_NAME_BYTES_MAX: Final = 255  # as long as the protocol's short strings
DIRECTORY_BUSY_SECONDS: Final = 5.0  # the command line writes to the same SQLite file

# memory pressure ------------------------------------------------------------------------------------------------------
PASS_SECONDS_MAX: Final = 60.0  # a pass that takes longer no longer holds the next one back
COOL_DOWN_DOUBLINGS_MAX: Final = 4  # passes in vain stretch the cool-down to 16 times its length, no further
READINGS_PAUSE_SECONDS: Final = 0.1  # between two looks at the sources, so that a flood of reports costs nothing
SOURCE_REOPEN_SECONDS: Final = 2.0  # between losing a pressure source and looking for the next
PRESSURE_PIPE_BYTES_MAX: Final = 64 * KIB  # read from a FIFO or socket at once, and dropped

# alarms ---------------------------------------------------------------------------------------------------------------
GROWTH_BYTES_PER_SECOND_MAX: Final = 1024 * MIB  # how fast memory or disk may fill up: decides when to look again
LOOKING_SHARE_MAX: Final = 0.2  # of one core: reading the page tables of a process takes 10 ms a gigabyte (measured)

# one connection -------------------------------------------------------------------------------------------------------
RECEIVE_BYTES_PER_TURN: Final = 512 * KIB  # what one client may bring into one turn of the pump
RECEIVE_BYTES_OF_TURN: Final = 1024 * KIB  # what all of them may, before what they brought is delivered and sent
EFFORT_PER_TURN: Final = 1024  # frames of one client that are taken one by one in a turn: 15 to 100 µs each, measured
EFFORT_BYTES: Final = 16  # of a method or content header that count as one frame more: tables of octets cost 1 µs each
EFFORT_WORTH_BYTES: Final = 512  # how much of RECEIVE_BYTES_OF_TURN one such frame uses up
ROUTES_CACHED_MAX: Final = 512  # raw publish methods remembered per connection
UNCOMMITTED_BYTES_MAX: Final = 64 * MIB  # of messages in transactions of one connection, or one message if larger
UNCOMMITTED_MESSAGE_BYTES: Final = 512  # what keeping one costs besides its header and body
LARGE_BODY_BYTES: Final = 256 * KIB  # from here on a body is sent and stored in pieces instead of being copied whole

# the pump -------------------------------------------------------------------------------------------------------------
LINGER_SECONDS: Final = 0.001  # waiting for more traffic without the event loop, whose timers are late by as much
YIELD_SECONDS_MAX: Final = 0.001  # of turns in a row, before other tasks run
SWITCH_SECONDS: Final = 0.0005  # a thread waits that long before it asks for the GIL: less than lies between two yields
SHORT_BYTES_PER_TURN: Final = 16 * KIB  # the same of one client while memory or disk is short: who publishes keeps it
FINISHING_MS_MAX: Final = 100  # that one client may take to finish a message while others wait to finish theirs
RESTRAINED_BYTES_MAX: Final = 64 * KIB  # what a publisher brings at once while it has to wait for consumers
DRAINING_MS_MAX: Final = 20  # a consumer that has taken nothing for longer is slow, and not one to wait for
SPINS_SKIPPED_MAX: Final = 1024  # a spin in vain costs a core; even on a quiet shard one in so many is tried

# one queue ------------------------------------------------------------------------------------------------------------
DELIVERY_RUN_MAX: Final = 64  # messages given to one consumer before the next one's turn, when there are several

DROPPED_PER_TURN_MAX: Final = 4096  # expired or too many, before other queues have their turn
TIME_MS_MAX: Final = 3650 * 24 * 3600 * 1000  # of message-ttl, expires and their like: ten years, as in RabbitMQ
QUORUM_RETURNS_MAX: Final = 20  # of a message in a quorum queue that asks for no limit, as in RabbitMQ 4

# deduplication: one queue or exchange ---------------------------------------------------------------------------------
DEDUPLICATED_MAX_DEFAULT: Final = 128  # messages remembered where nobody says how many, as in LavinMQ
DEDUPLICATED_MAX: Final = 2**20  # that may be asked for; each takes about 200 bytes of memory
DEDUPLICATION_KEY_BYTES_MAX: Final = 64  # of a header's value that are remembered as they are; of longer ones a digest

# one exchange ---------------------------------------------------------------------------------------------------------
HASH_BUCKETS_MAX: Final = 2**17  # the weights of all bindings to a consistent hash exchange together, 4 bytes each
HASH_RING_WEIGHT_MAX: Final = 2**12  # the same when it has a ring
HASH_RING_POINTS_PER_WEIGHT: Final = 32  # 8 bytes each; shares of bindings of weight 1 then differ by 18 %

# messages that wait at an exchange ------------------------------------------------------------------------------------
DELAY_MS_MAX: Final = 2**32 - 1  # 49 days, as in RabbitMQ's plugin; what asks for more does not wait there either
RELEASED_PER_TURN_MAX: Final = 256  # before queues and clients have their turn: 5 ms
RELEASED_BYTES_PER_TURN_MAX: Final = 8 * MIB  # the same, where they are large; one at least
UNREADABLE_RETRY_MS: Final = 1000  # until a queue that could not be read is looked at again
RELEASE_RETRY_MS: Final = 1000  # while the disk refuses writes, or one of them cannot be read

# between processes ----------------------------------------------------------------------------------------------------
PACKET_BYTES_MAX: Final = 128 * KIB  # a SEQPACKET message above ~212 KB is EMSGSIZE (measured)
PACKET_DESCRIPTORS_MAX: Final = 16  # the kernel allows 253

# policies and permissions ---------------------------------------------------------------------------------------------
RULES_BYTES_MAX: Final = 64 * KIB  # all policies of one vhost, encoded: they travel in one packet
PERMISSIONS_BYTES_MAX: Final = 24 * KIB  # one user's in one vhost: they travel beside what the client has said already
VHOST_DESCRIPTION_BYTES_MAX: Final = 4 * KIB  # description and tags of one vhost, each
PARAMETERS_BYTES_MAX: Final = 1024 * KIB  # all parameters of one vhost, or all global ones
ARGON2_KIB_MIN: Final = 7 * KIB  # for new passwords: the least that OWASP names
ARGON2_KIB_MAX: Final = 256 * KIB  # what a check may take, be its hash imported or of a new password
ARGON2_ROUNDS_MAX: Final = 16  # the same
ARGON2_LANES_MAX: Final = 16  # the same: each lane is a thread while a password is checked
BCRYPT_COST_MAX: Final = 14  # the same: a second
RULES_APPLIED_PER_STEP: Final = 64  # queues and exchanges that learn of changed policies before clients' next turn
RULINGS_REMEMBERED_MAX: Final = 1024  # pairs of a policy and an operator policy, per vhost
PERMISSION_ANSWERS_MAX: Final = 256  # remembered per user and vhost, of each kind

# store ----------------------------------------------------------------------------------------------------------------
SEGMENT_BYTES_FIRST: Final = 64 * KIB  # a queue's first segment starts this small and doubles
RUN_BYTES_MIN: Final = 32 * KIB  # room a tail must have before a run of publishes is appended to it
TAIL_BYTES_MAX: Final = 1024 * KIB  # unwritten messages of one queue: a turn that brings more writes early
TAIL_BYTES_KEPT_MAX: Final = 256 * KIB  # of it may wait behind the journal for acknowledgements; more is written back
JOURNAL_FILE_BYTES_FIRST: Final = 256 * KIB  # a journal's first file starts this small and doubles
JOURNAL_FILE_BYTES_MAX: Final = 16 * MIB  # then the next one is begun
JOURNAL_FILES_MAX: Final = 8  # full and waiting for their checkpoint; with as many more publishers wait, too
JOURNAL_SPARE_FILES_MAX: Final = 2  # kept to be overwritten
JOURNAL_PAGE_WORTH_BYTES: Final = 1 * KIB  # what begins a round goes to a page of its own from here on
WRITE_BACK_MS: Final = 500  # what stands in the journal only is written to its place after this
WRITTEN_BACK_PER_TURN_MAX: Final = 64  # queues, before clients have their turn
REGISTER_BYTES_MIN: Final = 1024 * KIB  # the register of segments is written anew beyond this, or twice its last length
SEGMENT_OFFSET_MAX: Final = 2**32 - 64 * KIB  # offsets are 32 bits wide; only a message of that size gets near
DAMAGES_REMEMBERED_MAX: Final = 100  # sentences about damage kept for the log of one start
DEFINITIONS_CACHE_KIB: Final = 256  # of pages a vhost's definitions file keeps in memory

# backups --------------------------------------------------------------------------------------------------------------
BACKUP_SECONDS_MAX: Final = 24 * 3600.0
CHECKPOINT_SLICE_SECONDS_MAX: Final = 0.0005  # of gathering what a register is to know, before clients have their turn
BACKUP_SLICE_SECONDS_MAX: Final = 0.0005  # of noting what there is, before clients have their turn
BACKUP_PROGRESS_SECONDS: Final = 1.0  # between two signs of life, the first of which finds out that nobody listens
BACKUP_MANIFEST_BYTES_MAX: Final = 1024 * MIB  # with 200 bytes a file
COPIED_AT_ONCE_BYTES: Final = 4 * MIB  # in one call to the kernel
COPIED_BETWEEN_SYNCS_BYTES: Final = 32 * MIB  # clients' syncs wait for what is dirty on the same disk
COPIED_BETWEEN_SYNCS_FILES: Final = 256  # small ones share a commit of the file system

# compaction -----------------------------------------------------------------------------------------------------------
SLICE_SECONDS_MAX: Final = 0.001  # the longest a compaction slice may hold the event loop
STEPS_PER_CLOCK_CHECK: Final = 16  # when none of them freed anything
PASS_INTERRUPTIONS_MAX: Final = 1000  # between two steps by lack of memory, until the pass is given up
COLLECTIONS_PER_STEP: Final = 64  # looked at in one step, of those nested in a dictionary
DEQUE_COPY_ENTRIES_MAX: Final = 1024  # what a deque hides is at most this many entries' room, so longer ones stay
GARBAGE_SECONDS_MIN: Final = 1.0  # between two collections of cycles, which hold the event loop
GARBAGE_BYTES_MAX: Final = 3 * MIB  # allocated since the start; with more, a collection takes more than about 2 ms
GARBAGE_BYTES_CRITICAL_MAX: Final = 16 * MIB  # the same for 10 ms, at CRITICAL
IDLE_BYTES_MIN: Final = MIB  # a peak that was less above what is left is not worth looking at everything
IDLE_SHARE_MIN: Final = 1 / 16  # nor is one that was less than this above it
IDLE_LOOK_SECONDS_MAX: Final = 15.0  # between two looks at how much is allocated
IDLE_LOOK_SECONDS_MIN: Final = 0.1
IDLE_PATIENCE_SECONDS: Final = (
    0.1  # a slice waits that long for clients to leave it time; then it takes one in a hundred
)
COLD_OFFERS_MAX: Final = 2048  # files whose pages may be given back at the end of one pass
THRASH_SECONDS: Final = 60.0  # pages that come back sooner are kept that long, then twice that, and so on
THRASH_DOUBLINGS_MAX: Final = 6  # to a little more than an hour
FAILURES_LOGGED_MAX: Final = 5  # reasons named in the log of one pass
PASSES_REMEMBERED_MAX: Final = 100
VHOSTS_REPORTED_MAX: Final = 20  # those a pass freed most for: a report travels in one packet, and a hundred are kept

# accounts of memory ---------------------------------------------------------------------------------------------------
ACCOUNT_SLICE_SECONDS_MAX: Final = 0.0005  # nobody is in a hurry, so clients wait less for it than for a pass
ACCOUNT_KEPT_SECONDS: Final = 1.0  # however many ask, the owners of memory are walked over once in this time
ACCOUNT_NAMED_MAX: Final = 100  # of vhosts, queues and connections each, those that hold most
INVENTORY_SLICE_SECONDS_MAX: Final = 0.001  # of a list, between which clients are served
INVENTORY_PIECE_BYTES: Final = 64 * KIB  # of an answer, sent once it is so large; items are cut where they must be
SAMPLES_KEPT: Final = 120  # of what a shard has counted: ten minutes
SAMPLE_SECONDS: Final = 5.0
LISTED_MAX: Final = 10_000  # things a list has at most, as in RabbitMQ's largest page
CONSUMERS_DETAILED_MAX: Final = 1000  # of a queue that is looked at alone; /api/consumers has all of them
GOT_BYTES_MAX: Final = 32 * MIB  # of bodies and headers in one answer with messages, which the management process holds
DESCRIBED_AT_ONCE_MAX: Final = 100  # things one request asks about, with three names of 255 bytes each
BROKER_ASKED_AT_ONCE_MAX: Final = 16  # questions of the management process; others wait for their turn
INNER_CLIENT_SECONDS_MAX: Final = 60.0  # for all that one request has to say to a virtual host
INNER_CLIENT_CHANNELS_MAX: Final = 16  # of the management process's connections, which use one each
HOLDINGS_PER_PAGE: Final = 64  # named with two names of 255 bytes and a number for each kind, far below a packet

# management -----------------------------------------------------------------------------------------------------------
HTTP_HEADER_BYTES_MAX: Final = 64 * KIB  # of a request
APOLOGIES_AT_ONCE: Final = 4  # a listener, while the management process cannot be started
APOLOGY_SECONDS_MAX: Final = 2.0  # for one client
HTTP_LINGER_SECONDS: Final = 2.0  # after an answer, for a client that still sends its request
HTTP_IDLE_SECONDS: Final = 75.0  # without a request, before a connection that is kept is closed
DEFINITIONS_SECONDS_MAX: Final = 600.0  # for all declarations of one virtual host that a file has
DEFINITIONS_UNDO_SECONDS_MAX: Final = 120.0  # for undoing them, whoever is waiting for it or not
DEFINITIONS_TOGETHER: Final = 1000  # declarations that one sync brings to disk
DEFINITIONS_PROBLEMS_MAX: Final = 100  # of a file that are told
DEFINITIONS_REFUSALS_MAX: Final = 20  # of declarations in one virtual host, each of which costs a new client
HTTP_GRACE_SECONDS: Final = 3.0  # for requests under way when the process is to end
METRICS_OBJECTS_MAX: Final = 100_000  # of a kind, in one scrape of single things
CLOSE_REASON_CHARACTERS_MAX: Final = 200

# the control socket ---------------------------------------------------------------------------------------------------
CONTROL_CLIENTS_MAX: Final = 32
CONTROL_BACKLOG: Final = 32
CONTROL_REQUEST_BYTES_MAX: Final = 16 * KIB
CONTROL_REPLY_BYTES_MAX: Final = 256 * KIB  # of one line; the longest is a page of the largest
CONTROL_IDLE_SECONDS: Final = 60.0  # without a request
CONTROL_SEND_SECONDS_MAX: Final = 10.0  # a client that does not take its answer is left
CONTROL_ANSWER_SECONDS_MAX: Final = 2 * PASS_SECONDS_MAX + 5.0  # a pass that is under way, then the one asked for
SHARD_ANSWER_SECONDS_MAX: Final = 5.0  # for a question; who is later is missing in the answer
QUESTIONS_OWED_MAX: Final = (
    64  # a shard that has so many unanswered is not asked more: its socket is needed for clients
)

# log ------------------------------------------------------------------------------------------------------------------
TRACEBACK_FRAMES_MAX: Final = 12  # the innermost ones of an exception in a line of text
LOG_TEXT_CHARACTERS_MAX: Final = 4096  # of a line that the supervisor keeps; the log itself has all of it
LOG_KEPT_BYTES_MAX: Final = 512 * KIB  # of the last lines of all processes: some thousands
LOG_KEPT_RELEASE_BYTES: Final = 128 * KIB  # of them that stay when memory is short
LOG_KEPT_CRITICAL_BYTES: Final = 16 * KIB  # the same when it is very short
LOG_TAKEN_AT_ONCE_MAX: Final = 256  # lines, before other tasks run
LOG_PAUSE_SECONDS: Final = 0.02  # between two looks for lines: a flood costs lines, and not the supervisor
LOG_PAGE_BYTES: Final = 64 * KIB  # of lines told in one answer; readers ask again for more, and only then it is made
LOG_WAIT_SECONDS_MAX: Final = 15.0  # for a line that has not come yet; then listeners are sent a sign of life
LOG_READERS_MAX: Final = 16  # who follow it at once

# allocator ------------------------------------------------------------------------------------------------------------
ALLOCATOR_MAPPED_BYTES: Final = 256 * KIB  # supervisor: larger blocks are mapped, and go back the moment they are freed
HOLES_BYTES_MAX: Final = 32 * MIB  # filled in the template's heap before it is forked; measured: 1.5 MB
ALLOCATOR_KEPT_BYTES: Final = 32 * MIB  # shards: so much may stay free on top of the heap; glibc maps nothing smaller

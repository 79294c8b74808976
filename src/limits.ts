/** A stated limit on everything that grows. Units come last in a name. */

const KiB = 1024;
const MiB = 1024 * KiB;

/** No repository has longer chunks. */
export const CHUNK_MAX_BYTES = 512 * KiB;
/** A pack is closed before its tar would pass this; zstd and age add less than the rest up to `PACK_STORED_MAX_BYTES`. */
export const PACK_TAR_MAX_BYTES = 15 * MiB;
/** No pack object is larger than this; a reader refuses larger ones. */
export const PACK_STORED_MAX_BYTES = 16 * MiB;
/** A frame is closed once its tar reaches this. */
export const FRAME_TAR_TARGET_BYTES = 1 * MiB;
/** No frame decompresses to more than this (target + one chunk + headers + end of archive); a reader refuses more. */
export const FRAME_TAR_MAX_BYTES = 2 * MiB;

/** No frame of zstd may ask for a larger window, of which a reader takes memory before it has decompressed anything: 2^23 bytes, as every level but the `ultra` ones makes do with. */
export const ZSTD_WINDOW_LOG_MAX = 23;

/** Objects other than packs: key records, snapshot records. */
export const RECORD_MAX_BYTES = 16 * MiB;
/** Packs that one condemned record names; about 7 MB. */
export const CONDEMNED_PACKS_MAX = 100_000;
/** Snapshot objects that one condemned record holds, in bytes as stored: Base64 within Base64 makes them 1.8 times as long. */
export const CONDEMNED_SNAPSHOT_BYTES_MAX = 6 * MiB;
/** One index object, stored and decompressed. */
export const INDEX_STORED_MAX_BYTES = 64 * MiB;
export const INDEX_PLAIN_MAX_BYTES = 256 * MiB;
/** One line of a manifest; it bounds a single file to `FILE_MAX_CHUNKS` chunks, about 200 GiB at the average chunk size. */
export const MANIFEST_LINE_MAX_BYTES = 256 * MiB;
export const FILE_MAX_CHUNKS = 3_500_000;

/** An index object is written after this many packs, so that an interrupted run keeps what it uploaded. */
export const INDEX_FLUSH_PACKS = 16;
/** … or this many chunks, which are some ten thousand in a pack of small files: what waits to be indexed is held in memory. */
export const INDEX_FLUSH_CHUNKS = 32 * 1024;
/** … or after this time. */
export const INDEX_FLUSH_MS = 60_000;
/** Packs being sealed or uploaded at once. */
export const UPLOADS_IN_FLIGHT = 3;
/** Packs being fetched and opened at once by a restore or a verification. */
export const PACKS_IN_FLIGHT = 3;
/** Small objects (key records, snapshots) being read at once: each may cost a round trip to the other side of the world. */
export const RECORDS_IN_FLIGHT = 16;
/** Indexes being read and opened at once. Most have a few hundred kilobytes. */
export const INDEXES_IN_FLIGHT = 3;
/** Frames being compressed at once, however many cores there are: memory grows with them. */
export const FRAMES_IN_FLIGHT_MAX = 8;

/** Bytes read from a file at once. */
export const READ_BUFFER_BYTES = 4 * MiB;
/** A path inside the tree, in bytes; longer ones are refused on restore. */
export const PATH_MAX_BYTES = 4096;
export const NAME_MAX_BYTES = 255;
/** The list of an entry's extended attributes, and the value of one: what Linux has at most. */
export const XATTRS_MAX_BYTES = 64 * KiB;
/** Stretches of one file that are kept as holes; about 2 MB in the manifest. */
export const HOLES_MAX = 100_000;

/** Backends in one config. */
export const BACKENDS_MAX = 16;
/** Also of a profile. A reader of YAML takes a tenth of a millisecond for each line that is wrong. */
export const CONFIG_MAX_BYTES = 256 * KiB;

/** What is kept of the output of each hook. */
export const HOOK_OUTPUT_MAX_BYTES = 64 * 1024;
/** Commands of one hook. */
export const HOOKS_MAX = 32;

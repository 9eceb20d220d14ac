import com.dynatrace.hash4j.hashing.Hasher64;
import com.dynatrace.hash4j.hashing.Hashing;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Arrays;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams: a Processor with a KeyValueStore, cached, in RocksDB, with a changelog.
 *
 * <p>Usage: KafkaStreamsApp MAX_EVENTS HORIZON_MS COMMIT_MS [warm]; "warm" reads the whole topic once before,
 * in the same JVM under another application id, so that its code is compiled when the measured pass begins.
 *
 * <p>Tuned: see {@link #settings}; what is not named there is Kafka Streams' default, at least once and
 * RocksDB's settings included. A window is kept as bytes into which an event is copied, so that no object is
 * made per event kept.
 */
public final class KafkaStreamsApp {
    private static final String STORE = "windows";

    private static String job(String name) {
        return System.getenv("BENCH_" + name);
    }

    public static void main(String[] arguments) throws Exception {
        int maxEvents = Integer.parseInt(arguments[0]);
        long horizonMs = Long.parseLong(arguments[1]);
        String commitMs = arguments[2];
        if (arguments.length > 3) {
            warmUp(maxEvents, horizonMs, commitMs);
        }
        CountDownLatch first = new CountDownLatch(1);
        KafkaStreams streams = new KafkaStreams(
                topology(maxEvents, horizonMs, first::countDown), settings(job("GROUP"), commitMs));
        run(streams);
        first.await();
        mark("first_event");
    }

    /** Reads what the topic holds now, under an application id of its own. */
    private static void warmUp(int maxEvents, long horizonMs, String commitMs) throws Exception {
        AtomicLong left = new AtomicLong(events());
        CountDownLatch done = new CountDownLatch(1);
        Runnable count = () -> {
            if (left.decrementAndGet() == 0) {
                done.countDown();
            }
        };
        KafkaStreams streams = new KafkaStreams(
                topology(maxEvents, horizonMs, count), settings(job("GROUP") + "-warm-up", commitMs));
        run(streams);
        done.await();
        streams.close();
    }

    private static void run(KafkaStreams streams) {
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static Topology topology(int maxEvents, long horizonMs, Runnable onEvent) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(Stores.keyValueStoreBuilder(
                        Stores.persistentKeyValueStore(STORE), Serdes.Bytes(), Serdes.ByteArray())
                .withCachingEnabled()
                .withLoggingEnabled(Map.of()));
        builder.stream(job("TOPIC"), Consumed.with(Serdes.Bytes(), Serdes.ByteArray()))
                .process(() -> new KeepWindow(new Windows(maxEvents, horizonMs), onEvent), STORE);
        return builder.build();
    }

    private static Properties settings(String applicationId, String commitMs) {
        Properties settings = new Properties();
        settings.putAll(Map.of(
                StreamsConfig.APPLICATION_ID_CONFIG, applicationId,
                StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job("BOOTSTRAP_SERVERS"),
                StreamsConfig.STATE_DIR_CONFIG, job("DIRECTORY") + "/state",
                StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, commitMs,
                // One thread per core; all windows that change between two commits fit into the cache.
                StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2,
                StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20));
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.RECEIVE_BUFFER_CONFIG), 1 << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 512 << 10);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64L << 20);
        return settings;
    }

    /** Returns how many events are on the topic. */
    private static long events() throws Exception {
        Map<TopicPartition, OffsetSpec> ends = IntStream.range(0, Integer.parseInt(job("PARTITIONS")))
                .boxed()
                .collect(Collectors.toMap(
                        number -> new TopicPartition(job("TOPIC"), number), number -> OffsetSpec.latest()));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", job("BOOTSTRAP_SERVERS")))) {
            return admin.listOffsets(ends).all().get().values().stream()
                    .mapToLong(ListOffsetsResultInfo::offset)
                    .sum();
        }
    }

    /** Leaves the time now, as bench/peers/job.py does: nanoTime is the machine's monotonic clock. */
    private static void mark(String name) throws IOException {
        Path directory = Path.of(job("DIRECTORY"));
        Path partial = directory.resolve("." + name);
        Files.writeString(partial, Double.toString(System.nanoTime() / 1e9));
        Files.move(partial, directory.resolve(name), StandardCopyOption.ATOMIC_MOVE);
    }

    /** Folds every event into its user's window. */
    private static final class KeepWindow implements Processor<Bytes, byte[], Void, Void> {
        private final Windows windows;
        private final Runnable onEvent;
        private final Event event = new Event();
        private KeyValueStore<Bytes, byte[]> store;

        KeepWindow(Windows windows, Runnable onEvent) {
            this.windows = windows;
            this.onEvent = onEvent;
        }

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            store = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<Bytes, byte[]> record) {
            event.read(record.value());
            byte[] known = store.get(record.key());
            byte[] window = windows.fold(known, event);
            if (window != known) {
                store.put(record.key(), window);
            }
            onEvent.run();
        }
    }

    /** What a window keeps of one event. */
    private static final class Event {
        private static final JsonFactory JSON = new JsonFactory();
        private static final Hasher64 HASHER = Hashing.xxh3_64();

        long timeMs;
        long hash;
        int behaviour;
        byte[] item;
        byte[] category;

        void read(byte[] json) {
            try (JsonParser parser = JSON.createParser(json)) {
                parser.nextToken();
                for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
                    parser.nextToken();
                    switch (name) {
                        case "event_id" -> hash = HASHER.hashBytesToLong(utf8(parser));
                        case "item_id" -> item = utf8(parser);
                        case "item_category" -> category = utf8(parser);
                        case "behavior_type" -> behaviour = parser.getIntValue();
                        case "time" -> timeMs = parser.getLongValue();
                        default -> parser.skipChildren();
                    }
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        private static byte[] utf8(JsonParser parser) throws IOException {
            return parser.getText().getBytes(StandardCharsets.UTF_8);
        }
    }

    /**
     * The rule of a window (models/windows/reference.py), on bytes, big-endian:
     *
     * <pre>
     * uint16 m, m edge hashes (uint64), then per event, oldest first:
     * int64 time_ms, uint64 hash, uint8 behaviour, uint16 bytes of item, uint16 of category, item, category
     * </pre>
     */
    private static final class Windows {
        private static final byte[] EMPTY = new byte[2];
        private static final int HEADER = 21;
        private static final int MAX_EDGE_HASHES = 1024;

        private final int maxEvents;
        private final long horizonMs;
        /** Where each event of the window at hand begins. */
        private final int[] starts;

        Windows(int maxEvents, long horizonMs) {
            this.maxEvents = maxEvents;
            this.horizonMs = horizonMs;
            starts = new int[maxEvents + 1];
        }

        /** Returns the window with this event in it; the same array where it changes nothing. */
        byte[] fold(byte[] known, Event event) {
            byte[] bytes = known == null ? EMPTY : known;
            ByteBuffer window = ByteBuffer.wrap(bytes);
            int first = 2 + 8 * (window.getShort(0) & 0xffff);
            for (int at = 2; at < first; at += 8) {
                if (window.getLong(at) == event.hash) {
                    return known;
                }
            }
            int count = 0;
            int place = 0;
            int end = first;
            while (end < bytes.length) {
                if (window.getLong(end + 8) == event.hash) {
                    return known;
                }
                starts[count++] = end;
                if (window.getLong(end) <= event.timeMs) {
                    place = count;
                }
                end += HEADER + (window.getShort(end + 17) & 0xffff) + (window.getShort(end + 19) & 0xffff);
            }
            starts[count] = end;
            if (count == 0) {
                return with(window, 0, 0, event);
            }
            long newestMs = window.getLong(starts[count - 1]);
            boolean isFull = count == maxEvents;
            if (event.timeMs < newestMs - horizonMs || isFull && event.timeMs < window.getLong(first)) {
                return known;
            }
            long oldestAllowedMs = Math.max(newestMs, event.timeMs) - horizonMs;
            int dropped = isFull ? 1 : 0;
            while (dropped < count && window.getLong(starts[dropped]) < oldestAllowedMs) {
                dropped++;
            }
            return with(window, dropped, place, event);
        }

        /** Returns the window without its oldest events, and with one more before the event at a place. */
        private byte[] with(ByteBuffer window, int dropped, int place, Event event) {
            byte[] edges = edges(window, dropped, place, event);
            int before = starts[dropped];
            int split = starts[place];
            int after = window.limit() - split;
            int size = 2 + edges.length + split - before;
            ByteBuffer made = ByteBuffer.allocate(size + HEADER + event.item.length + event.category.length + after);
            made.putShort((short) (edges.length / 8)).put(edges).put(window.array(), before, split - before);
            made.putLong(event.timeMs).putLong(event.hash).put((byte) event.behaviour);
            made.putShort((short) event.item.length).putShort((short) event.category.length);
            made.put(event.item).put(event.category).put(window.array(), split, after);
            return made.array();
        }

        /**
         * Returns the hashes of events that were dropped although they are as old as the oldest kept one: their
         * duplicates would find room again.
         */
        private byte[] edges(ByteBuffer window, int dropped, int place, Event event) {
            byte[] known = Arrays.copyOfRange(window.array(), 2, starts[0]);
            if (dropped == 0) {
                return known;
            }
            long oldestKeptMs = place == dropped ? event.timeMs : window.getLong(starts[dropped]);
            ByteBuffer edges = ByteBuffer.allocate(known.length + 8 * dropped);
            if (window.getLong(starts[0]) == oldestKeptMs) {
                edges.put(known);
            }
            for (int each = 0; each < dropped; each++) {
                if (window.getLong(starts[each]) == oldestKeptMs) {
                    edges.putLong(window.getLong(starts[each] + 8));
                }
            }
            int surplus = Math.max(0, edges.position() - 8 * MAX_EDGE_HASHES);
            return Arrays.copyOfRange(edges.array(), surplus, edges.position());
        }
    }
}

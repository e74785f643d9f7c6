import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * Copies the topic "in" to the topic "out", exactly once; beside that counts, in a step that takes five seconds to store its state.
 * Arguments: brokers, directory of checkpoints, checkpoint to go on from.
 */
public class Outage {
    /** Stands for large state and a slow disk: the sink has flushed its transaction, and the checkpoint is not complete yet. */
    static class SlowState extends RichMapFunction<String, Long> implements CheckpointedFunction {
        private long rows;

        @Override
        public Long map(String row) {
            return ++rows;
        }

        @Override
        public void snapshotState(FunctionSnapshotContext context) throws Exception {
            System.out.println("storing state for checkpoint " + context.getCheckpointId());
            Thread.sleep(5_000);
        }

        @Override
        public void initializeState(FunctionInitializationContext context) {}
    }

    public static void main(String[] args) throws Exception {
        Configuration conf = new Configuration();
        conf.setString("execution.checkpointing.interval", "8 s");
        conf.setString("execution.checkpointing.dir", "file://" + args[1]);
        conf.setString("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
        if (args.length > 2) {
            conf.setString("execution.state-recovery.path", "file://" + args[2]);
        }
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(conf);
        env.setParallelism(1);
        KafkaSource<String> source = KafkaSource.<String>builder()
            .setBootstrapServers(args[0]).setTopics("in").setGroupId("outage")
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setValueOnlyDeserializer(new SimpleStringSchema()).build();
        KafkaSink<String> sink = KafkaSink.<String>builder()
            .setBootstrapServers(args[0])
            .setRecordSerializer(KafkaRecordSerializationSchema.builder()
                .setTopic("out").setValueSerializationSchema(new SimpleStringSchema()).build())
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
            .setTransactionalIdPrefix("outage")
            .setProperty("transaction.timeout.ms", "30000").build();
        DataStream<String> rows = env.fromSource(source, WatermarkStrategy.noWatermarks(), "in").uid("in");
        rows.sinkTo(sink).uid("out");
        rows.map(new SlowState()).uid("slow").disableChaining();
        env.execute("outage");
    }
}

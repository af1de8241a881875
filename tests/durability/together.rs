//! Many builds at once on one store.

use std::path::PathBuf;
use std::time::Duration;

use super::{RUNS, cache, command, push, store_is_whole, undisturbed};
use crate::support::{Index, Outcome, Run, World, layout, shared_registry, users};

#[test]
fn ten_builds_of_the_same() {
    let (digest, _) = undisturbed();
    let registry = shared_registry();
    for user in users() {
        let world = World::of(user);
        let name = |number: usize| format!("durability/same-{number}");
        let builds: Vec<_> =
            (0..10).map(|number| Run::new(push(&world, &registry.name(&name(number)))).start()).collect();
        let outcomes: Vec<Outcome> = builds.into_iter().map(|build| build.finish().success()).collect();
        for number in 0..10 {
            assert_eq!(registry.index(&name(number), "latest").digest, *digest, "{user:?}, {number}");
        }
        // Whoever comes second waits, and takes what was made.
        let runs: usize = outcomes.iter().map(|outcome| outcome.runs("finished")).sum();
        assert_eq!(runs, RUNS, "{user:?}: commands were run more than once");
        store_is_whole(&world);
    }
}

/// Another last step for each number, after a stage that all have.
fn variant(world: &World, number: usize) -> PathBuf {
    let dockerfile = format!(
        "ARG BASE=base\nFROM $BASE AS shared\nRUN seq 1 5000 > /shared && sleep 0.3\nCOPY text /text\n\
         FROM shared AS other\nRUN wc -l /shared > /lines && sleep 0.2\n\
         FROM shared\nCOPY --from=other /lines /lines\nRUN echo {number} > /number\n"
    );
    world.write(&format!("variant-{number}/text"), "text\n");
    world.context(&format!("variant-{number}"), &dockerfile)
}

fn build_variant(world: &World, number: usize) -> Run {
    let out = world.path(&format!("out/variant-{number}"));
    Run::new(command(world)).args(["--output", &layout(&out)]).arg(variant(world, number))
}

fn variant_digest(world: &World, number: usize) -> String {
    Index::layout(&world.path(&format!("out/variant-{number}"))).digest
}

#[test]
fn ten_builds_with_a_stage_in_common() {
    let alone: Vec<String> = {
        let world = World::new();
        let build = |number| {
            build_variant(&world, number).run().success();
            variant_digest(&world, number)
        };
        (0..10).map(build).collect()
    };
    for user in users() {
        let world = World::of(user);
        let builds: Vec<_> = (0..10).map(|number| build_variant(&world, number).start()).collect();
        let runs = |outcome: &Outcome| outcome.runs("finished");
        let runs: usize = builds.into_iter().map(|build| runs(&build.finish().success())).sum();
        assert_eq!(runs, 2 + 10, "{user:?}: what they have in common was run more than once");
        for (number, digest) in alone.iter().enumerate() {
            assert_eq!(variant_digest(&world, number), *digest, "{user:?}, {number}");
        }
        store_is_whole(&world);

        // One is killed while the others wait for it, or for each other.
        for pause in [150, 400] {
            let world = World::of(user);
            let mut builds: Vec<_> =
                (0..10).map(|number| Some(build_variant(&world, number).start())).collect();
            std::thread::sleep(Duration::from_millis(pause));
            let victim = builds[0].take().expect("it was started");
            victim.kill();
            victim.finish();
            for (number, build) in builds.into_iter().enumerate() {
                let Some(build) = build else { continue };
                build.finish().success();
                assert_eq!(variant_digest(&world, number), alone[number], "{user:?}, {number}, {pause}");
            }
            build_variant(&world, 0).run().success();
            assert_eq!(variant_digest(&world, 0), alone[0], "{user:?}, {pause}");
            store_is_whole(&world);
        }

        // The store is cleaned up and read meanwhile.
        let world = World::of(user);
        let builds: Vec<_> = (0..10)
            .map(|number| {
                let build = build_variant(&world, number).start();
                cache(&world, if number % 2 == 0 { &["prune", "--all"] } else { &["verify"] })
                    .run()
                    .success();
                build
            })
            .collect();
        for (number, build) in builds.into_iter().enumerate() {
            build.finish().success();
            assert_eq!(variant_digest(&world, number), alone[number], "{user:?}, {number}, cleaned");
        }
        store_is_whole(&world);
    }
}

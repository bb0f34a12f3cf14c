//! Who wears what, and who may come in.

use schemas::{EventTime, PatientId};
use store::StoreError;
use store::registry::Assignment;
use store::users::{Role, User};

use crate::{Fresh, NOW, ada, at, oximeter, ward};

crate::on_both! {
    an_assignment_is_of_a_period
    a_device_password_is_kept_as_a_hash
    a_link_signs_in_once
    names_stay_out_of_the_log
    a_move_is_asked_for_and_done
}

async fn an_assignment_is_of_a_period(fresh: Fresh) {
    let store = &fresh.store;
    ward(store).await;
    let uwe = PatientId::parse("uwe").unwrap();
    let before = store.registry_version().await.unwrap();
    store.assign(&Assignment { device: oximeter(), patient: ada(), from: at(0), until: None }).await.unwrap();
    assert!(store.registry_version().await.unwrap() > before, "the gateway notices");
    let overlap = store.assign(&Assignment { device: oximeter(), patient: uwe.clone(), from: at(60), until: None }).await;
    assert!(matches!(overlap, Err(StoreError::Overlap { .. })), "{overlap:?}");
    store.end_assignment(&oximeter(), at(60)).await.unwrap();
    store.assign(&Assignment { device: oximeter(), patient: uwe.clone(), from: at(60), until: None }).await.unwrap();
    for (when, whose) in [(at(-1), None), (at(0), Some(ada())), (at(59), Some(ada())), (at(60), Some(uwe))] {
        assert_eq!(store.patient_of(&oximeter(), when).await.unwrap(), whose, "{when}");
    }
    assert_eq!(store.registry_view().await.unwrap().assignments.len(), 2);
}

async fn a_device_password_is_kept_as_a_hash(fresh: Fresh) {
    let store = &fresh.store;
    ward(store).await;
    let password = store.new_device_password(&oximeter(), NOW).await.unwrap();
    let view = store.registry_view().await.unwrap();
    let kept = &view.credentials[0].value;
    assert!(kept.starts_with("sha256:") && !kept.contains(password.as_str()), "{kept}");
    assert_eq!(*kept, store::secrets::device_hash(password.as_bytes()));
    store.revoke_credential(&view.credentials[0].id, at(1)).await.unwrap();
    assert!(store.registry_view().await.unwrap().credentials.is_empty());
    // certificates: as many as are wanted, none twice, and alone when asked for
    store.new_device_certificate(&oximeter(), "aa", Some("0aa"), false, NOW).await.unwrap();
    store.new_device_certificate(&oximeter(), "bb", Some("0bb"), false, NOW).await.unwrap();
    assert!(matches!(store.new_device_certificate(&oximeter(), "aa", Some("0aa"), false, NOW).await, Err(StoreError::Exists { .. })));
    store.new_device_password(&oximeter(), NOW).await.unwrap();
    store.new_device_certificate(&oximeter(), "cc", Some("0cc"), true, at(2)).await.unwrap();
    let left: Vec<String> = store.registry_view().await.unwrap().credentials.into_iter().map(|one| one.value).collect();
    assert_eq!(left, ["cc"]);
    let revoked = async || {
        let all = store.revoked_certificates().await.unwrap();
        all.into_iter().map(|one| (one.serial, one.at, one.device_is_revoked)).collect::<Vec<_>>()
    };
    let replaced = [("0aa".to_owned(), at(2), false), ("0bb".to_owned(), at(2), false)];
    assert_eq!(revoked().await, replaced);
    store.revoke_device(&oximeter(), at(3)).await.unwrap();
    assert_eq!(revoked().await, [&replaced[..], &[("0cc".to_owned(), at(3), true)]].concat());
}

async fn a_link_signs_in_once(fresh: Fresh) {
    let store = &fresh.store;
    store.add_user(&User { name: "silva".to_owned(), role: Role::Clinician, created_at: NOW, disabled_at: None }).await.unwrap();
    let link = store.new_one_time_link("silva", at(600)).await.unwrap();
    assert!(store.use_one_time_link("guess", NOW, at(900)).await.unwrap().is_none());
    let (user, session) = store.use_one_time_link(&link, NOW, at(900)).await.unwrap().unwrap();
    assert_eq!(user.name, "silva");
    assert!(store.use_one_time_link(&link, NOW, at(900)).await.unwrap().is_none(), "once");
    assert!(store.session(&session, at(1)).await.unwrap().is_some());
    assert!(store.session(&session, at(901)).await.unwrap().is_none(), "expired");
    assert!(store.check_password("silva", "").await.unwrap().is_none(), "no password is no way in");
    assert!(matches!(store.set_password("silva", "short").await, Err(StoreError::Invalid { .. })));
    store.set_password("silva", "a long enough one").await.unwrap();
    assert!(store.check_password("silva", "a long enough one").await.unwrap().is_some());
    assert!(store.check_password("silva", "a long enough 1").await.unwrap().is_none());
    assert!(store.check_password("nobody", "a long enough one").await.unwrap().is_none());
    store.disable_user("silva", at(2)).await.unwrap();
    assert!(store.check_password("silva", "a long enough one").await.unwrap().is_none());
    assert!(store.session(&session, at(3)).await.unwrap().is_none());
}

async fn names_stay_out_of_the_log(fresh: Fresh) {
    ward(&fresh.store).await;
    let patient = fresh.store.patient(&ada()).await.unwrap();
    assert_eq!(patient.name.reveal(), "OKAFOR, Ada");
    let printed = format!("{patient:?}");
    assert!(!printed.contains("OKAFOR") && !printed.contains("1945"), "{printed}");
}

async fn a_move_is_asked_for_and_done(fresh: Fresh) {
    let store = &fresh.store;
    store.ask_move(&oximeter(), at(60), at(3)).await.unwrap();
    assert!(store.moves_due(at(2)).await.unwrap().is_empty(), "the gateways do not know yet");
    let due = store.moves_due(at(3)).await.unwrap();
    assert_eq!((due.len(), due[0].since), (1, at(60)));
    // asked for again while it goes on, from later on: the earlier time stays
    store.ask_move(&oximeter(), at(90), at(3)).await.unwrap();
    store.move_done(&due[0]).await.unwrap();
    let due = store.moves_due(at(3)).await.unwrap();
    assert_eq!((due.len(), due[0].since), (1, at(60)), "what was asked for meanwhile is still to do");
    store.move_done(&due[0]).await.unwrap();
    assert!(store.moves_due(EventTime::MAX).await.unwrap().is_empty());
}
